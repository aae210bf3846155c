//! Tracks every connection of the transport. The node server reports its sessions to the
//! [`SessionWatcher`]. Events and the list of peers are derived under the same lock, so they always
//! agree.
//!
//! At most [`MAX_CONNECTIONS`] connections are inbound, and at most [`MAX_UNAUTHENTICATED`] of
//! these are not authenticated. Beyond that, a new connection evicts the oldest unauthenticated
//! one: silent connections cannot keep out a peer, which authenticates within milliseconds.
//!
//! When the last ready connection to a peer ends while others are being set up, one of them may
//! lead to the same peer: two nodes that dial each other at once become ready on one connection,
//! elect the other, and close the first. [`PeerEvent::Down`] is therefore delayed by [`DOWN_GRACE`],
//! and not published if another connection becomes ready in time.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use ractor::{ActorId, ActorRef};
use ractor_cluster::node::NodeServerSessionInformation as Session;
use ractor_cluster::{NodeEventSubscription, NodeSessionMessage};
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::peer::{Peer, PeerEvent, PeerName};

/// Maximum number of inbound connections.
pub(super) const MAX_CONNECTIONS: usize = 256;
/// Maximum number of inbound connections that are not authenticated.
pub(super) const MAX_UNAUTHENTICATED: usize = 64;
/// How long [`PeerEvent::Down`] is delayed while another connection to the peer may be in progress.
pub(super) const DOWN_GRACE: Duration = Duration::from_millis(250);
/// The minimum interval between warnings about unauthenticated connections.
const UNAUTHENTICATED_LOG_INTERVAL: Duration = Duration::from_secs(30);
/// The number of events buffered for slow receivers.
const EVENT_BUFFER: usize = 1_024;

/// Identifies a connection. Ids increase.
pub(super) type ConnectionId = u64;

/// All connections of a transport.
#[derive(Debug)]
pub(super) struct Connections {
    state: Mutex<State>,
    events: broadcast::Sender<PeerEvent>,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    last_id: ConnectionId,
    connections: BTreeMap<ConnectionId, Connection>,
    sessions: HashMap<ActorId, ConnectionId>,
    announced: HashMap<PeerName, Peer>,
    /// When an unauthenticated connection was last logged.
    last_warned_at: Option<Instant>,
}

#[derive(Debug)]
struct Connection {
    direction: Direction,
    address: SocketAddr,
    authenticated: Arc<AtomicBool>,
    stage: Stage,
}

/// Which side opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// The peer connected to this node.
    Inbound,
    /// This node dialled.
    Outbound,
}

#[derive(Debug)]
enum Stage {
    /// The handshake is in progress. Cancelling the token aborts it.
    Handshaking(CancellationToken),
    /// The node server exchanges cookie and names.
    Authenticating(ActorRef<NodeSessionMessage>),
    /// The peer is authenticated and up.
    Ready(Peer),
}

/// The slot of a connection, released when it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    pub(super) connection_id: ConnectionId,
    pub(super) direction: Direction,
    /// Cancelled if the connection is evicted before it is passed to the node server.
    pub(super) evicted: CancellationToken,
    authenticated: Arc<AtomicBool>,
    connections: Arc<Connections>,
}

/// The transport has been stopped.
#[derive(Debug)]
pub(super) struct TransportStopped;

impl Connections {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), events: broadcast::Sender::new(EVENT_BUFFER) }
    }

    /// Reserves a slot for an inbound connection. `None` if all are taken by peers.
    pub(super) fn admit(self: &Arc<Self>, address: SocketAddr) -> Option<ConnectionSlot> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        if !state.reserve() {
            warn!(%address, "rejected an incoming connection: {MAX_CONNECTIONS} peers are already connected");
            return None;
        }
        Some(self.insert(&mut state, Direction::Inbound, address))
    }

    /// Reserves a slot for an outbound connection. `None` if there already is one to the address.
    pub(super) fn dial(
        self: &Arc<Self>,
        address: SocketAddr,
    ) -> Result<Option<ConnectionSlot>, TransportStopped> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(TransportStopped);
        }
        let dialled =
            |other: &Connection| other.direction == Direction::Outbound && other.address == address;
        if state.connections.values().any(dialled) {
            return Ok(None);
        }
        Ok(Some(self.insert(&mut state, Direction::Outbound, address)))
    }

    fn insert(
        self: &Arc<Self>,
        state: &mut State,
        direction: Direction,
        address: SocketAddr,
    ) -> ConnectionSlot {
        state.last_id += 1;
        let slot = ConnectionSlot {
            connection_id: state.last_id,
            direction,
            evicted: CancellationToken::new(),
            authenticated: Arc::default(),
            connections: self.clone(),
        };
        let authenticated = slot.authenticated.clone();
        let stage = Stage::Handshaking(slot.evicted.clone());
        state
            .connections
            .insert(slot.connection_id, Connection { direction, address, authenticated, stage });
        slot
    }

    /// Logs a connection that failed to authenticate.
    pub(super) fn note_unauthenticated(&self, direction: Direction, address: SocketAddr) {
        self.state.lock().warn_unauthenticated(direction, address);
    }

    /// Closes a connection that is not ready yet.
    pub(super) fn expire(&self, connection_id: ConnectionId) {
        let mut state = self.state.lock();
        if state.connections.get(&connection_id).is_some_and(|connection| !connection.is_ready()) {
            state.end(connection_id, "not_ready_in_time");
        }
    }

    /// Closes all connections permanently.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let ids: Vec<ConnectionId> = state.connections.keys().copied().collect();
        for connection_id in ids {
            state.end(connection_id, "transport_stopped");
        }
        let names: Vec<PeerName> = state.announced.keys().cloned().collect();
        for name in names {
            self.publish_change(&mut state, &name);
        }
    }

    pub(super) fn peers(&self) -> Vec<Peer> {
        self.state.lock().announced.values().cloned().collect()
    }

    pub(super) fn peer_events(&self) -> broadcast::Receiver<PeerEvent> {
        self.events.subscribe()
    }

    /// Publishes the change of a peer's state since the last event, if any.
    fn publish_change(&self, state: &mut State, name: &PeerName) {
        let event = match (state.announced.get(name), state.ready(name)) {
            (None, None) => return,
            (Some(old), Some(_)) if state.is_ready(old) => return,
            (_, Some(new)) => {
                state.announced.insert(name.clone(), new.clone());
                PeerEvent::Up(new)
            }
            (Some(_), None) => {
                PeerEvent::Down(state.announced.remove(name).expect("the peer was announced"))
            }
        };
        match &event {
            PeerEvent::Up(peer) => info!(peer = %peer.name, "connected to a peer"),
            PeerEvent::Down(peer) => info!(peer = %peer.name, "lost the connection to a peer"),
        }
        // Fails if there are no subscribers.
        _ = self.events.send(event);
    }

    /// The number of connections opened so far.
    #[cfg(test)]
    pub(super) fn total_opened(&self) -> u64 {
        self.state.lock().last_id
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.state.lock().connections.len()
    }
}

impl State {
    /// Makes room for another inbound connection, if necessary by evicting one. Returns whether
    /// there is room.
    fn reserve(&mut self) -> bool {
        let inbound = || {
            self.connections
                .iter()
                .filter(|(_, connection)| connection.direction == Direction::Inbound)
        };
        let unauthenticated = || inbound().filter(|(_, connection)| !connection.is_ready());
        if inbound().count() < MAX_CONNECTIONS && unauthenticated().count() < MAX_UNAUTHENTICATED {
            return true;
        }
        let oldest = unauthenticated().next().map(|(connection_id, _)| *connection_id);
        if let Some(connection_id) = oldest {
            self.end(connection_id, "evicted");
        }
        oldest.is_some()
    }

    /// Closes a connection that is not ready, and removes it.
    fn end(&mut self, connection_id: ConnectionId, reason: &str) {
        match self.connections.remove(&connection_id).map(|connection| connection.stage) {
            Some(Stage::Handshaking(evicted)) => evicted.cancel(),
            Some(Stage::Authenticating(session)) => session.stop(Some(reason.to_owned())),
            Some(Stage::Ready(_)) | None => {}
        }
    }

    /// The peer with this name, on its newest ready connection.
    fn ready(&self, name: &PeerName) -> Option<Peer> {
        let mut newest_first = self.connections.values().rev().filter_map(Connection::peer);
        newest_first.find(|peer| peer.name == *name).cloned()
    }

    /// Whether exactly this connection is ready.
    fn is_ready(&self, peer: &Peer) -> bool {
        self.connections.values().any(|connection| connection.peer() == Some(peer))
    }

    /// Logs an unauthenticated connection, at a limited rate: there can be many.
    fn warn_unauthenticated(&mut self, direction: Direction, address: SocketAddr) {
        if self.last_warned_at.is_none_or(|at| at.elapsed() >= UNAUTHENTICATED_LOG_INTERVAL) {
            self.last_warned_at = Some(Instant::now());
            warn!(?direction, %address, "closed an unauthenticated connection: a different cookie or CA, or not a peer");
        }
    }

    fn of(&mut self, session: &Session) -> Option<&mut Connection> {
        let connection_id = self.sessions.get(&session.actor.get_id())?;
        self.connections.get_mut(connection_id)
    }
}

impl Connection {
    fn peer(&self) -> Option<&Peer> {
        match &self.stage {
            Stage::Ready(peer) => Some(peer),
            Stage::Handshaking(_) | Stage::Authenticating(_) => None,
        }
    }

    fn is_ready(&self) -> bool {
        self.peer().is_some()
    }
}

impl ConnectionSlot {
    /// Whether the peer has proved that it knows the cookie.
    pub(super) fn is_authenticated(&self) -> bool {
        self.authenticated.load(Ordering::Relaxed)
    }
}

impl Drop for ConnectionSlot {
    /// Once the node server has the connection, it reports the end of the connection instead.
    fn drop(&mut self) {
        let mut state = self.connections.state.lock();
        let handshaking =
            |connection: &Connection| matches!(connection.stage, Stage::Handshaking(_));
        if state.connections.get(&self.connection_id).is_some_and(handshaking) {
            state.connections.remove(&self.connection_id);
        }
    }
}

/// Receives the node server's reports of sessions.
pub(super) struct SessionWatcher(pub(super) Arc<Connections>);

impl NodeEventSubscription for SessionWatcher {
    fn node_session_opened(&self, session: Session) {
        let mut state = self.0.state.lock();
        let connection_id = session.peer_addr.parse().ok();
        match connection_id.and_then(|connection_id| {
            Some((connection_id, state.connections.get_mut(&connection_id)?))
        }) {
            Some((connection_id, connection)) => {
                connection.stage = Stage::Authenticating(session.actor.clone());
                state.sessions.insert(session.actor.get_id(), connection_id);
            }
            // The connection was evicted, or was not opened by this transport.
            None => session.actor.stop(Some("unknown_connection".to_owned())),
        }
    }

    fn node_session_authenticated(&self, session: Session) {
        let mut state = self.0.state.lock();
        if let Some(connection) = state.of(&session) {
            connection.authenticated.store(true, Ordering::Relaxed);
        }
    }

    fn node_session_ready(&self, session: Session) {
        let mut state = self.0.state.lock();
        match (name_of(&session), state.of(&session)) {
            (Some(name), Some(connection)) => {
                let (node_id, address) = (session.node_id, connection.address);
                connection.stage = Stage::Ready(Peer { name: name.clone(), node_id, address });
                self.0.publish_change(&mut state, &name);
            }
            _ => {
                let name = session.peer_name.as_ref().map(|message| &message.name);
                warn!(?name, "closed a session whose name is not a peer's");
                session.actor.stop(Some("not_a_peer".to_owned()));
            }
        }
    }

    fn node_session_disconnected(&self, session: Session) {
        let mut state = self.0.state.lock();
        let connection_id = state.sessions.remove(&session.actor.get_id());
        let Some(connection) =
            connection_id.and_then(|connection_id| state.connections.remove(&connection_id))
        else {
            return;
        };
        let Stage::Ready(peer) = connection.stage else {
            if !connection.authenticated.load(Ordering::Relaxed) {
                state.warn_unauthenticated(connection.direction, connection.address);
            }
            return;
        };
        if state.connections.values().all(Connection::is_ready) {
            self.0.publish_change(&mut state, &peer.name);
            return;
        }
        let connections = self.0.clone();
        tokio::spawn(async move {
            sleep(DOWN_GRACE).await;
            connections.publish_change(&mut connections.state.lock(), &peer.name);
        });
    }
}

fn name_of(session: &Session) -> Option<PeerName> {
    PeerName::from_wire(&session.peer_name.as_ref()?.name).ok()
}
