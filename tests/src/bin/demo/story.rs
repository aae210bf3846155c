//! What happens in the demo. Every step is awaited, so that each line tells what really was.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::Endpoint;
use postrider_tests::config::Config;
use postrider_tests::receiver::{Behaviour, Hook, Received};
use postrider_tests::scene::{ORDER, REFUND, Scene};
use postrider_tests::wait::seconds;
use serde_json::json;

use crate::page::{Ink, Page};

/// The product's ten retries, in half a minute in place of a day.
const WINDOW: &str = "30s";
const ATTEMPTS: usize = 11;
const SOON: Duration = seconds(10);
/// Longer than the window.
const AT_LAST: Duration = seconds(45);

/// An endpoint of the story and where it leads.
struct Player {
    name: &'static str,
    hook: Hook,
    endpoint: Endpoint,
}

/// Tells the whole story, and gives the scene as it is then.
pub async fn tell(page: &Page) -> Result<Scene> {
    let scene = open(page).await?;
    let healthy = player(page, &scene, "healthy", &[ORDER, REFUND]).await?;
    let broken = player(page, &scene, "broken", &[ORDER]).await?;
    broken.hook.behave(Behaviour::with_body(503, "the database is down"));

    delivered(page, &scene, &healthy).await?;
    exhausted(page, &scene, &healthy, &broken).await?;
    told_by_email(page, &scene, &broken).await?;
    held(page, &scene, &broken).await?;
    mended(page, &scene, &broken).await?;
    Ok(scene)
}

async fn open(page: &Page) -> Result<Scene> {
    page.chapter("A node, a receiver for webhooks, and a mail server, all on this machine");
    let config = Config::new().timeout("1s").retry(WINDOW, 10).set("retry", "factor", 1.6);
    let scene = Scene::start(config).await?;
    let node = format!("listens on {}", scene.account.api.base());
    page.line(Ink::Plain, "node", &node);
    page.line(Ink::Plain, "receiver", &format!("listens on http://{}", scene.receiver.address()));
    page.line(Ink::Plain, "mail", &format!("listens on smtp://{}", scene.mail.address()));
    let account = format!("created {}, whose email goes to ops@example.com", scene.account.id);
    page.line(Ink::Plain, "account", &account);
    let link = scene.operator.portal_link(&scene.account.id, &json!({})).await?;
    page.line(Ink::Plain, "you", &format!("may watch it all in a browser: {link}"));
    Ok(scene)
}

async fn player(page: &Page, scene: &Scene, name: &'static str, types: &[&str]) -> Result<Player> {
    let hook = scene.hook(name);
    let endpoint = scene.account.create(&NewEndpoint::at(&hook.url()).of_types(types)).await?;
    page.line(Ink::Plain, name, &format!("endpoint {} wants {}", hook.url(), types.join(", ")));
    Ok(Player { name, hook, endpoint })
}

async fn delivered(page: &Page, scene: &Scene, healthy: &Player) -> Result<()> {
    page.chapter("Events reach an endpoint that answers, signed");
    for n in 1..=3 {
        let payload = json!({"order": n, "refund": "2.50"});
        publish(page, scene, REFUND, &payload).await?;
        let received = healthy.hook.wait_for(n, SOON).await?;
        arrival(page, healthy, &received[n - 1])?;
    }
    Ok(())
}

async fn exhausted(page: &Page, scene: &Scene, healthy: &Player, broken: &Player) -> Result<()> {
    page.chapter(
        "One that answers 503 is tried again, ten times, after growing delays \
         (within 30 s here, a day by default)",
    );
    let before = healthy.hook.received().len();
    publish(page, scene, ORDER, &json!({"order": 4, "total": "12.50"})).await?;
    let received = healthy.hook.wait_for(before + 1, SOON).await?;
    arrival(page, healthy, &received[before])?;
    let mut pauses = Vec::new();
    for n in 1..=ATTEMPTS {
        let received = broken.hook.wait_for(n, AT_LAST).await?;
        let attempt = &received[n - 1];
        attempt.verify(secret(broken))?;
        let mut what = format!("attempt {n:2}: answered 503");
        if let Some(previous) = n.checked_sub(2) {
            let pause = attempt.began - received[previous].began;
            what.push_str(&format!(", {:.2} s later", pause.as_secs_f64()));
            pauses.push(pause);
        }
        page.line(Ink::Bad, broken.name, &what);
    }
    // Over two steps they grow by more than jitter and a busy machine could hide.
    ensure!(pauses.windows(3).all(|three| three[0] < three[2]), "the delays did not grow");

    page.chapter("Then it is disabled, and says why");
    let disabled = |endpoint: &Endpoint| endpoint.state == "disabled";
    let id = &broken.endpoint.id;
    let endpoint = scene.account.until_endpoint(id, "is disabled", SOON, disabled).await?;
    let reason = endpoint.disabled.map(|disabled| disabled.reason).context("a reason")?;
    let failures = endpoint.failure_count;
    page.line(Ink::Bad, broken.name, &format!("disabled: {reason}, {failures} failures in a row"));
    let error = endpoint.last_error.context("a last error")?;
    page.line(Ink::Bad, broken.name, &format!("last error: {}", error.message));
    let delivery = scene.account.delivery(&error.delivery_id).await?;
    let last = delivery.attempts.last().context("an attempt")?;
    let answer = last.response.as_ref().context("an answer")?;
    let (number, status, body) = (last.number, answer.status, &answer.body);
    let record = format!("on record: attempt {number} was answered {status} «{body}»");
    page.line(Ink::Bad, broken.name, &record);
    Ok(())
}

async fn held(page: &Page, scene: &Scene, broken: &Player) -> Result<()> {
    page.chapter("What comes for it while it is disabled is held, not lost");
    for n in 5..=6 {
        publish(page, scene, ORDER, &json!({"order": n, "total": "12.50"})).await?;
    }
    let held = scene.account.endpoint(&broken.endpoint.id).await?.held;
    ensure!(held == 2, "{held} deliveries are held, not 2");
    page.line(Ink::Plain, broken.name, &format!("{held} deliveries are held"));
    Ok(())
}

async fn told_by_email(page: &Page, scene: &Scene, broken: &Player) -> Result<()> {
    page.chapter("Its owner hears of it");
    let mail = scene.mail.wait_for(1, SOON).await?.remove(0);
    ensure!(mail.text.contains(&broken.endpoint.id), "the email is about something else");
    page.line(Ink::Plain, "mail", &format!("to {}: {}", mail.to.join(", "), mail.subject));
    page.quote(&mail.text);
    Ok(())
}

async fn mended(page: &Page, scene: &Scene, broken: &Player) -> Result<()> {
    page.chapter("It is mended and enabled: what was held arrives");
    broken.hook.behave(Behaviour::default());
    let id = &broken.endpoint.id;
    scene.account.enable(id, "resume").await?;
    page.line(Ink::Plain, broken.name, "answers 200 again, and is enabled");
    let received = broken.hook.wait_for(ATTEMPTS + 2, SOON).await?;
    for request in &received[ATTEMPTS..] {
        arrival(page, broken, request)?;
    }

    let deliveries = scene.account.deliveries(id).await?;
    let exhausted = deliveries.iter().find(|delivery| delivery.state == "exhausted");
    let delivery = &exhausted.context("the delivery that was exhausted")?.id;
    page.line(Ink::Plain, "you", "ask for the one that was given up to be sent again");
    let path = scene.account.path(&format!("/deliveries/{delivery}/retry"));
    scene.account.api.post(&path, &json!({})).await?.succeeded()?;
    let received = broken.hook.wait_for(ATTEMPTS + 3, SOON).await?;
    arrival(page, broken, &received[ATTEMPTS + 2])?;
    let settled = |endpoint: &Endpoint| endpoint.pending == 0 && endpoint.failure_count == 0;
    scene.account.until_endpoint(id, "is well", SOON, settled).await?;
    Ok(())
}

/// Stops the node, once nobody looks at the dashboard any more.
pub async fn close(page: &Page, mut scene: Scene) -> Result<()> {
    page.chapter("The end");
    page.until_enter("The dashboard shows what happened until you press Enter.").await?;
    scene.node.stop().await?;
    page.line(Ink::Plain, "node", "has stopped in good order; nothing was lost on the way");
    Ok(())
}

async fn publish(
    page: &Page,
    scene: &Scene,
    event_type: &str,
    payload: &serde_json::Value,
) -> Result<()> {
    let accepted = scene.account.publish(event_type, &payload.to_string()).await?;
    let what = format!("publish {event_type} {payload}, for {} endpoints", accepted.deliveries);
    page.line(Ink::Plain, "you", &what.replace("1 endpoints", "1 endpoint"));
    Ok(())
}

/// A webhook that was answered with 200.
fn arrival(page: &Page, player: &Player, request: &Received) -> Result<()> {
    request.verify(secret(player))?;
    let event_type = request.header("webhook-event-type").unwrap_or_default();
    let body = String::from_utf8_lossy(&request.body);
    let what = format!("received {event_type} {body}, signature verified, answered 200");
    page.line(Ink::Good, player.name, &what);
    Ok(())
}

fn secret(player: &Player) -> &str {
    player.endpoint.signing_secret.as_deref().unwrap_or_default()
}
