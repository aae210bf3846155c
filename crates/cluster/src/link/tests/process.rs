//! Calls between two processes. The other is this test binary again, with one test.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, async_trait, pg};
use ractor_cluster::RactorClusterMessage;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::world::{Node, PATIENCE, options};

/// Tells the other process where the first listens.
const FIRST: &str = "POSTRIDER_LINK_TEST_FIRST";
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

#[tokio::test]
async fn calls_go_both_ways_until_the_other_is_killed() {
    let (heard, mut hearing) = mpsc::unbounded_channel();
    Actor::spawn(None, Echo { who: "first", heard }, ()).await.unwrap();
    let mut first = Node::start(options("first", None)).await;
    let mut second = Command::new(std::env::current_exe().unwrap())
        .args(["link::tests::process::the_other_process", "--exact"])
        .env(FIRST, first.address().to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let peer = match timeout(PATIENCE, first.events.recv()).await.unwrap().unwrap() {
        crate::link::Event::Up(peer) => peer,
        other => panic!("{other:?}"),
    };
    assert_eq!(peer.name.name, "second");
    assert_eq!(call("hello").await, "second: hello");
    let heard = timeout(PATIENCE, hearing.recv()).await.unwrap().unwrap();
    assert_eq!(heard, "hi");

    second.kill().unwrap();
    assert!(first.down(&peer.name).await < Duration::from_secs(1));
    assert_eq!(pg::get_members(&GROUP.to_owned()).len(), 1, "the dead one's echo is gone");
    second.wait().unwrap();
}

/// No test by itself: what the other process does, until it is killed.
#[tokio::test]
async fn the_other_process() {
    let Ok(first) = std::env::var(FIRST) else { return };
    let (heard, _hearing) = mpsc::unbounded_channel();
    Actor::spawn(None, Echo { who: "second", heard }, ()).await.unwrap();
    let mut second = Node::start(options("second", None)).await;
    second.link.connect(first.parse::<SocketAddr>().unwrap()).await.unwrap();
    timeout(PATIENCE, second.events.recv()).await.unwrap().unwrap();
    assert_eq!(call("hi").await, "first: hi");
    // Killed long before.
    tokio::time::sleep(2 * PATIENCE).await;
}
