use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::*;
use crate::wait::{millis, seconds};

const REQUEST: &[u8] = b"POST /a?q=1 HTTP/1.1\r\nHost: x\r\nX-Odd-CASE:  v \r\nWebhook-Id: evt_1\r\nContent-Length: 4\r\n\r\n{ }\n";

async fn send(receiver: &Receiver, request: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(receiver.address()).await?;
    stream.write_all(request).await?;
    let mut answer = vec![0; 4096];
    let n = stream.read(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer[..n]).into_owned())
}

#[tokio::test]
async fn keeps_every_byte() -> Result<()> {
    let receiver = Receiver::start().await?;
    assert!(send(&receiver, REQUEST).await?.starts_with("HTTP/1.1 200"));
    let request = &receiver.hook("a").wait_for(1, seconds(1)).await?[0];
    assert_eq!([&request.head[..], &request.body[..]].concat(), REQUEST);
    assert_eq!(request.path, "/a");
    assert_eq!(request.request_line(), "POST /a?q=1 HTTP/1.1");
    assert_eq!(request.headers()[1], ("X-Odd-CASE".to_owned(), "v".to_owned()));
    assert_eq!(request.webhook_id().as_deref(), Some("evt_1"));
    Ok(())
}

#[tokio::test]
async fn two_requests_on_one_connection() -> Result<()> {
    let receiver = Receiver::start().await?;
    send(&receiver, &[REQUEST, REQUEST].concat()).await?;
    let requests = receiver.hook("a").wait_for_ended(2, seconds(1)).await?;
    assert_eq!(requests[0].connection, requests[1].connection);
    assert_eq!(requests[0].body, requests[1].body);
    Ok(())
}

#[tokio::test]
async fn behaves_as_configured() -> Result<()> {
    let receiver = Receiver::start().await?;
    let hook = receiver.hook("a");
    hook.set_behaviour(Behaviour::redirect(302, "/b"));
    assert!(send(&receiver, REQUEST).await?.contains("302 Test\r\nLocation: /b\r\n"));
    hook.set_behaviour(Behaviour::fail_first(2, 503));
    for expected in ["503", "503", "200"] {
        assert!(send(&receiver, REQUEST).await?.contains(expected));
    }
    hook.set_behaviour(Behaviour::Close);
    assert_eq!(send(&receiver, REQUEST).await?, "");
    hook.set_behaviour(Behaviour::Reset);
    assert!(send(&receiver, REQUEST).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_hanging_request_ends_when_its_sender_disconnects() -> Result<()> {
    let receiver = Receiver::start().await?;
    let hook = receiver.hook("a");
    hook.set_behaviour(Behaviour::Hang);
    let sending = tokio::time::timeout(millis(100), send(&receiver, REQUEST));
    assert!(sending.await.is_err(), "got a response");
    let ended = hook.wait_for_ended(1, seconds(1)).await?;
    assert!(ended[0].duration() >= Some(millis(90)), "{:?}", ended[0].duration());
    assert_eq!(ended[0].answered, None);
    Ok(())
}

#[tokio::test]
async fn a_timeout_names_the_condition() -> Result<()> {
    let receiver = Receiver::start().await?;
    let began = Instant::now();
    let error = receiver.hook("a").wait_for(3, millis(50)).await.expect_err("nothing arrives");
    assert!(began.elapsed() >= millis(50));
    assert!(error.to_string().contains("3 requests arrive at /a"), "{error}");
    Ok(())
}
