//! Every connection of this link, and what became of it. The node server tells the [`Watcher`]
//! of its sessions; from the same lock come [`Event`]s and the list of peers, so the two agree.
//!
//! A full house: at most [`MAX_CONNECTIONS`] come in, and at most [`MAX_UNPROVED`] of them have
//! not proved themselves. One more takes the place of the oldest of those: strangers that say
//! nothing cannot keep a peer out, which needs a place for some milliseconds only.
//!
//! When the last ready connection to a peer ends while others are on their way, one of these may
//! be to the same peer: two that dialled each other at once are ready on one connection, elect
//! the other, and close the first. So [`Event::Down`] waits for [`GRACE`], and is not told if
//! the other gets ready in time.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ractor::{ActorId, ActorRef};
use ractor_cluster::node::NodeServerSessionInformation as Session;
use ractor_cluster::{NodeEventSubscription, NodeSessionMessage};
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::peer::{Event, Peer, PeerName};

/// The most connections that others have made to this node.
pub(super) const MAX_CONNECTIONS: usize = 256;
/// The most of them that have not proved themselves.
pub(super) const MAX_UNPROVED: usize = 64;
/// How long a peer may be without a ready connection, when one may be on its way.
pub(super) const GRACE: Duration = Duration::from_millis(250);
/// How often strangers are told of.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// How many events are kept for those who are slow to look.
const EVENTS: usize = 1_024;

/// A connection's number.
pub(super) type Serial = u64;

/// Every connection of a link.
#[derive(Debug)]
pub(super) struct Table {
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    last: Serial,
    connections: BTreeMap<Serial, Connection>,
    sessions: HashMap<ActorId, Serial>,
    announced: HashMap<PeerName, Peer>,
    /// When strangers were last told of.
    told: Option<Instant>,
}

#[derive(Debug)]
struct Connection {
    way: Way,
    address: SocketAddr,
    proved: Arc<AtomicBool>,
    stage: Stage,
}

/// Who made the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The other end.
    In,
    /// This end.
    Out,
}

#[derive(Debug)]
enum Stage {
    /// On its way to the node server; cancelled, it goes no further.
    Arriving(CancellationToken),
    /// The node server has it, and asks who it is.
    Asked(ActorRef<NodeSessionMessage>),
    /// A peer.
    Ready(Peer),
}

/// A connection's place in the table, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) serial: Serial,
    pub(super) way: Way,
    /// Cancelled when the connection loses its place before the node server has it.
    pub(super) given_up: CancellationToken,
    proved: Arc<AtomicBool>,
    table: Arc<Table>,
}

/// The link has been stopped.
#[derive(Debug)]
pub(super) struct Closed;

impl Table {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), events: broadcast::Sender::new(EVENTS) }
    }

    /// A place for a connection that comes in; none if there is none left.
    pub(super) fn admit(self: &Arc<Self>, address: SocketAddr) -> Option<Ticket> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        if !state.make_room() {
            warn!(%address, "sent a connection away: there are {MAX_CONNECTIONS} of peers already");
            return None;
        }
        Some(self.enter(&mut state, Way::In, address))
    }

    /// A place for a connection that goes out; none if there is one to that address.
    pub(super) fn dial(self: &Arc<Self>, address: SocketAddr) -> Result<Option<Ticket>, Closed> {
        let mut state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        let dialled = |other: &Connection| other.way == Way::Out && other.address == address;
        if state.connections.values().any(dialled) {
            return Ok(None);
        }
        Ok(Some(self.enter(&mut state, Way::Out, address)))
    }

    fn enter(self: &Arc<Self>, state: &mut State, way: Way, address: SocketAddr) -> Ticket {
        state.last += 1;
        let ticket = Ticket {
            serial: state.last,
            way,
            given_up: CancellationToken::new(),
            proved: Arc::default(),
            table: self.clone(),
        };
        let proved = ticket.proved.clone();
        let stage = Stage::Arriving(ticket.given_up.clone());
        state.connections.insert(ticket.serial, Connection { way, address, proved, stage });
        ticket
    }

    /// Somebody could not prove to be a peer.
    pub(super) fn stranger(&self, way: Way, address: SocketAddr) {
        self.lock().tell_of_stranger(way, address);
    }

    /// Ends a connection that is not ready by now.
    pub(super) fn expire(&self, serial: Serial) {
        let mut state = self.lock();
        if state.connections.get(&serial).is_some_and(|connection| !connection.is_ready()) {
            state.end(serial, "not_ready_in_time");
        }
    }

    /// Ends everything, for good.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let serials: Vec<Serial> = state.connections.keys().copied().collect();
        for serial in serials {
            state.end(serial, "link_stopped");
        }
        let names: Vec<PeerName> = state.announced.keys().cloned().collect();
        for name in names {
            self.settle(&mut state, &name);
        }
    }

    pub(super) fn peers(&self) -> Vec<Peer> {
        self.lock().announced.values().cloned().collect()
    }

    pub(super) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Tells what has changed about a peer since it was last told.
    fn settle(&self, state: &mut State, name: &PeerName) {
        let event = match (state.announced.get(name), state.ready(name)) {
            (None, None) => return,
            (Some(old), Some(_)) if state.is_ready(old) => return,
            (_, Some(new)) => {
                state.announced.insert(name.clone(), new.clone());
                Event::Up(new)
            }
            (Some(_), None) => Event::Down(state.announced.remove(name).expect("it was there")),
        };
        match &event {
            Event::Up(peer) => info!(peer = %peer.name, "a peer is linked"),
            Event::Down(peer) => info!(peer = %peer.name, "a peer is no longer linked"),
        }
        // Nobody may be listening.
        _ = self.events.send(event);
    }

    /// How many connections there have ever been.
    #[cfg(test)]
    pub(super) fn seen(&self) -> u64 {
        self.lock().last
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.lock().connections.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Makes room for one more connection from outside, or says that there is none.
    fn make_room(&mut self) -> bool {
        let inside = || self.connections.iter().filter(|(_, one)| one.way == Way::In);
        let unproved = || inside().filter(|(_, one)| !one.is_ready());
        if inside().count() < MAX_CONNECTIONS && unproved().count() < MAX_UNPROVED {
            return true;
        }
        let oldest = unproved().next().map(|(serial, _)| *serial);
        if let Some(serial) = oldest {
            self.end(serial, "made_room");
        }
        oldest.is_some()
    }

    /// Ends a connection that is not ready, or forgets one that is.
    fn end(&mut self, serial: Serial, reason: &str) {
        match self.connections.remove(&serial).map(|connection| connection.stage) {
            Some(Stage::Arriving(given_up)) => given_up.cancel(),
            Some(Stage::Asked(session)) => session.stop(Some(reason.to_owned())),
            Some(Stage::Ready(_)) | None => {}
        }
    }

    /// The newest ready connection to a peer.
    fn ready(&self, name: &PeerName) -> Option<Peer> {
        let mut newest_first = self.connections.values().rev().filter_map(Connection::peer);
        newest_first.find(|peer| peer.name == *name).cloned()
    }

    /// Whether the very connection is ready.
    fn is_ready(&self, peer: &Peer) -> bool {
        self.connections.values().any(|connection| connection.peer() == Some(peer))
    }

    /// Says, not too often, that somebody did not prove to be a peer: strangers can be many.
    fn tell_of_stranger(&mut self, way: Way, address: SocketAddr) {
        if self.told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            self.told = Some(Instant::now());
            warn!(?way, %address, "a connection ended unproved: another cookie or authority, or no peer at all");
        }
    }

    fn of(&mut self, session: &Session) -> Option<&mut Connection> {
        let serial = self.sessions.get(&session.actor.get_id())?;
        self.connections.get_mut(serial)
    }
}

impl Connection {
    fn peer(&self) -> Option<&Peer> {
        match &self.stage {
            Stage::Ready(peer) => Some(peer),
            Stage::Arriving(_) | Stage::Asked(_) => None,
        }
    }

    fn is_ready(&self) -> bool {
        self.peer().is_some()
    }
}

impl Ticket {
    /// Whether the peer has proved that it knows the cookie.
    pub(super) fn is_proved(&self) -> bool {
        self.proved.load(Ordering::Relaxed)
    }
}

impl Drop for Ticket {
    /// From the moment that the node server has the connection, it says when it ends.
    fn drop(&mut self) {
        let mut state = self.table.lock();
        let arriving = |one: &Connection| matches!(one.stage, Stage::Arriving(_));
        if state.connections.get(&self.serial).is_some_and(arriving) {
            state.connections.remove(&self.serial);
        }
    }
}

/// What the node server tells of its sessions.
pub(super) struct Watcher(pub(super) Arc<Table>);

impl NodeEventSubscription for Watcher {
    fn node_session_opened(&self, session: Session) {
        let mut state = self.0.lock();
        let serial = session.peer_addr.parse().ok();
        match serial.and_then(|serial| Some((serial, state.connections.get_mut(&serial)?))) {
            Some((serial, connection)) => {
                connection.stage = Stage::Asked(session.actor.clone());
                state.sessions.insert(session.actor.get_id(), serial);
            }
            // It lost its place, or did not come through our door.
            None => session.actor.stop(Some("unknown_connection".to_owned())),
        }
    }

    fn node_session_authenticated(&self, session: Session) {
        let mut state = self.0.lock();
        if let Some(connection) = state.of(&session) {
            connection.proved.store(true, Ordering::Relaxed);
        }
    }

    fn node_session_ready(&self, session: Session) {
        let mut state = self.0.lock();
        match (name_of(&session), state.of(&session)) {
            (Some(name), Some(connection)) => {
                let (node_id, address) = (session.node_id, connection.address);
                connection.stage = Stage::Ready(Peer { name: name.clone(), node_id, address });
                self.0.settle(&mut state, &name);
            }
            _ => {
                let name = session.peer_name.as_ref().map(|message| &message.name);
                warn!(?name, "ended a session that is not of a peer");
                session.actor.stop(Some("not_a_peer".to_owned()));
            }
        }
    }

    fn node_session_disconnected(&self, session: Session) {
        let mut state = self.0.lock();
        let serial = state.sessions.remove(&session.actor.get_id());
        let Some(connection) = serial.and_then(|serial| state.connections.remove(&serial)) else {
            return;
        };
        let Stage::Ready(peer) = connection.stage else {
            if !connection.proved.load(Ordering::Relaxed) {
                state.tell_of_stranger(connection.way, connection.address);
            }
            return;
        };
        if state.connections.values().all(Connection::is_ready) {
            self.0.settle(&mut state, &peer.name);
            return;
        }
        let table = self.0.clone();
        tokio::spawn(async move {
            sleep(GRACE).await;
            table.settle(&mut table.lock(), &peer.name);
        });
    }
}

fn name_of(session: &Session) -> Option<PeerName> {
    PeerName::from_wire(&session.peer_name.as_ref()?.name).ok()
}
