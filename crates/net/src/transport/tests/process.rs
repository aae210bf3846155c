//! Calls between two processes.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, async_trait, pg};
use ractor_cluster::RactorClusterMessage;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::world::{Node, PATIENCE, eventually};
use crate::transport::Event;

/// Says to a process that it is the first, or to the second where the first listens.
const ROLE: &str = "POSTRIDER_LINK_TEST_ROLE";
const GROUP: &str = "postrider.link.tests.echo";

/// Says what it is told, and who says so.
struct Echo {
    who: &'static str,
    heard: mpsc::UnboundedSender<String>,
}

#[derive(RactorClusterMessage)]
enum EchoMessage {
    #[rpc]
    Say(String, RpcReplyPort<String>),
}

#[async_trait]
impl Actor for Echo {
    type Msg = EchoMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<EchoMessage>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        pg::join(GROUP.to_owned(), vec![myself.get_cell()]);
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<EchoMessage>,
        EchoMessage::Say(text, reply): EchoMessage,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        reply.send(format!("{}: {text}", self.who))?;
        self.heard.send(text)?;
        Ok(())
    }
}

/// Calls the other process's echo.
async fn call(text: &str) -> String {
    let remote =
        pg::get_members(&GROUP.to_owned()).into_iter().find(|one| !one.get_id().is_local());
    let echo = ActorRef::<EchoMessage>::from(remote.expect("the other's echo is known"));
    let said = |reply| EchoMessage::Say(text.to_owned(), reply);
    match echo.call(said, Some(PATIENCE)).await.unwrap() {
        CallResult::Success(answer) => answer,
        other => panic!("{other:?}"),
    }
}

/// This test binary again, with one test.
fn again(test: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&format!("transport::tests::process::{test}"), "--exact", "--nocapture"]);
    command.env(ROLE, role);
    command
}

/// In processes of their own, since actors are known to the whole process.
#[test]
fn calls_go_both_ways_until_the_other_is_killed() {
    let output = again("the_first_process", "first").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// No test by itself: what the first process does.
#[tokio::test]
async fn the_first_process() {
    if std::env::var(ROLE).is_err() {
        return;
    }
    let (heard, mut hearing) = mpsc::unbounded_channel();
    Actor::spawn(None, Echo { who: "first", heard }, ()).await.unwrap();
    let mut first = Node::plain("first").await;
    let address = first.address().to_string();
    let mut second = again("the_second_process", &address).stderr(Stdio::null()).spawn().unwrap();
    let peer = match timeout(PATIENCE, first.events.recv()).await.unwrap().unwrap() {
        Event::Up(peer) => peer,
        other => panic!("{other:?}"),
    };
    assert_eq!(peer.name.name, "second");
    assert_eq!(call("hello").await, "second: hello");
    let heard = timeout(PATIENCE, hearing.recv()).await.unwrap().unwrap();
    assert_eq!(heard, "hi");

    second.kill().unwrap();
    assert!(first.down(&peer.name).await < Duration::from_secs(1));
    let own_alone = || pg::get_members(&GROUP.to_owned()).len() == 1;
    eventually("the dead one's echo is forgotten", own_alone).await;
    second.wait().unwrap();
}

/// No test by itself: what the second process does, until it is killed.
#[tokio::test]
async fn the_second_process() {
    let Ok(first) = std::env::var(ROLE) else { return };
    let (heard, _hearing) = mpsc::unbounded_channel();
    Actor::spawn(None, Echo { who: "second", heard }, ()).await.unwrap();
    let mut second = Node::plain("second").await;
    second.link.connect(first.parse::<SocketAddr>().unwrap()).await.unwrap();
    timeout(PATIENCE, second.events.recv()).await.unwrap().unwrap();
    assert_eq!(call("hi").await, "first: hi");
    // Killed long before.
    tokio::time::sleep(2 * PATIENCE).await;
}
