//! Calls between two processes.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, async_trait, pg};
use ractor_cluster::RactorClusterMessage;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::fixture::{Node, TIMEOUT, eventually};
use crate::transport::PeerEvent;

/// The role of a test process: `first`, or for the second process the address of the first.
const ROLE: &str = "POSTRIDER_LINK_TEST_ROLE";
const GROUP: &str = "postrider.transport.tests.echo";

/// Replies with the text that it receives, prefixed with its name.
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

/// Calls the echo actor of the other process.
async fn call(text: &str) -> String {
    let remote =
        pg::get_members(&GROUP.to_owned()).into_iter().find(|one| !one.get_id().is_local());
    let echo =
        ActorRef::<EchoMessage>::from(remote.expect("the other process's echo actor is known"));
    let message = |reply| EchoMessage::Say(text.to_owned(), reply);
    match echo.call(message, Some(TIMEOUT)).await.unwrap() {
        CallResult::Success(reply) => reply,
        other => panic!("{other:?}"),
    }
}

/// Runs this test binary with a single test.
fn test_process(test: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&format!("transport::tests::process::{test}"), "--exact", "--nocapture"]);
    command.env(ROLE, role);
    command
}

/// Runs in separate processes, because actors are global to a process.
#[test]
fn calls_work_in_both_directions_until_one_process_is_killed() {
    let output = test_process("the_first_process", "first").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Not a test on its own: the first process.
#[tokio::test]
async fn the_first_process() {
    if std::env::var(ROLE).is_err() {
        return;
    }
    let (heard, mut hearing) = mpsc::unbounded_channel();
    Actor::spawn(None, Echo { who: "first", heard }, ()).await.unwrap();
    let mut first = Node::plain("first").await;
    let address = first.address().to_string();
    let mut second =
        test_process("the_second_process", &address).stderr(Stdio::null()).spawn().unwrap();
    let peer = match timeout(TIMEOUT, first.events.recv()).await.unwrap().unwrap() {
        PeerEvent::Up(peer) => peer,
        other => panic!("{other:?}"),
    };
    assert_eq!(peer.name.name, "second");
    assert_eq!(call("hello").await, "second: hello");
    let heard = timeout(TIMEOUT, hearing.recv()).await.unwrap().unwrap();
    assert_eq!(heard, "hi");

    second.kill().unwrap();
    assert!(first.down(&peer.name).await < Duration::from_secs(1));
    let own_alone = || pg::get_members(&GROUP.to_owned()).len() == 1;
    eventually("the killed process's echo actor is removed", own_alone).await;
    second.wait().unwrap();
}

/// Not a test on its own: the second process, which runs until it is killed.
#[tokio::test]
async fn the_second_process() {
    let Ok(first) = std::env::var(ROLE) else { return };
    let (heard, _hearing) = mpsc::unbounded_channel();
    Actor::spawn(None, Echo { who: "second", heard }, ()).await.unwrap();
    let mut second = Node::plain("second").await;
    second.transport.connect(first.parse::<SocketAddr>().unwrap()).await.unwrap();
    timeout(TIMEOUT, second.events.recv()).await.unwrap().unwrap();
    assert_eq!(call("hi").await, "first: hi");
    // The process is killed long before this ends.
    tokio::time::sleep(2 * TIMEOUT).await;
}
