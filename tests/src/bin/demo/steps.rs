//! The steps of the demo. Each line is printed after the step has really happened.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::Endpoint;
use postrider_tests::config::Config;
use postrider_tests::fixture::{Fixture, ORDER, REFUND};
use postrider_tests::receiver::{Behaviour, Hook, Received};
use postrider_tests::wait::seconds;
use serde_json::json;

use crate::console::{Colour, Console};

/// The product's ten retries, within half a minute instead of a day.
const WINDOW: &str = "30s";
const ATTEMPTS: usize = 11;
const SOON: Duration = seconds(10);
/// Longer than the window.
const FINALLY: Duration = seconds(45);

/// An endpoint and its receiver.
struct DemoEndpoint {
    name: &'static str,
    hook: Hook,
    endpoint: Endpoint,
}

/// Runs all steps.
pub async fn run(console: &Console) -> Result<Fixture> {
    let fixture = start(console).await?;
    let healthy = endpoint(console, &fixture, "healthy", &[ORDER, REFUND]).await?;
    let broken = endpoint(console, &fixture, "broken", &[ORDER]).await?;
    broken.hook.set_behaviour(Behaviour::with_body(500, "the database is down"));

    delivered(console, &fixture, &healthy).await?;
    exhausted(console, &fixture, &healthy, &broken).await?;
    emailed(console, &fixture, &broken).await?;
    held(console, &fixture, &broken).await?;
    recovered(console, &fixture, &broken).await?;
    Ok(fixture)
}

async fn start(console: &Console) -> Result<Fixture> {
    console.heading("A node, a receiver for webhooks, and a mail server, all on this machine");
    let config = Config::new().timeout("1s").retry(WINDOW, 10).set("retry", "factor", 1.6);
    let fixture = Fixture::start(config).await?;
    let node = format!("listens on {}", fixture.account.api.base());
    console.line(Colour::Plain, "node", &node);
    console.line(
        Colour::Plain,
        "receiver",
        &format!("listens on http://{}", fixture.receiver.address()),
    );
    console.line(Colour::Plain, "mail", &format!("listens on smtp://{}", fixture.mail.address()));
    let account = format!("created {} with the contact ops@example.com", fixture.account.id);
    console.line(Colour::Plain, "account", &account);
    let link = fixture.operator.portal_link(&fixture.account.id, &json!({})).await?;
    console.line(Colour::Plain, "you", &format!("can watch in a browser: {link}"));
    Ok(fixture)
}

async fn endpoint(
    console: &Console,
    fixture: &Fixture,
    name: &'static str,
    types: &[&str],
) -> Result<DemoEndpoint> {
    let hook = fixture.hook(name);
    let endpoint = fixture.account.create(&NewEndpoint::at(&hook.url()).of_types(types)).await?;
    console.line(
        Colour::Plain,
        name,
        &format!("endpoint {} subscribes to {}", hook.url(), types.join(", ")),
    );
    Ok(DemoEndpoint { name, hook, endpoint })
}

async fn delivered(console: &Console, fixture: &Fixture, healthy: &DemoEndpoint) -> Result<()> {
    console.heading("A healthy endpoint receives signed events");
    for n in 1..=3 {
        let payload = json!({"order": n, "refund": "2.50"});
        publish(console, fixture, REFUND, &payload).await?;
        let received = healthy.hook.wait_for(n, SOON).await?;
        arrival(console, healthy, &received[n - 1])?;
    }
    Ok(())
}

async fn exhausted(
    console: &Console,
    fixture: &Fixture,
    healthy: &DemoEndpoint,
    broken: &DemoEndpoint,
) -> Result<()> {
    console.heading(
        "An endpoint that returns 500 gets ten retries with growing delays \
         (within 30 s here, a day by default)",
    );
    let before = healthy.hook.received().len();
    publish(console, fixture, ORDER, &json!({"order": 4, "total": "12.50"})).await?;
    let received = healthy.hook.wait_for(before + 1, SOON).await?;
    arrival(console, healthy, &received[before])?;
    let mut delays = Vec::new();
    for n in 1..=ATTEMPTS {
        let received = broken.hook.wait_for(n, FINALLY).await?;
        let attempt = &received[n - 1];
        attempt.verify(secret(broken))?;
        let mut what = format!("attempt {n:2}: 500");
        if let Some(previous) = n.checked_sub(2) {
            let delay = attempt.began - received[previous].began;
            what.push_str(&format!(", {:.2} s later", delay.as_secs_f64()));
            delays.push(delay);
        }
        console.line(Colour::Bad, broken.name, &what);
    }
    // Over two retries the growth exceeds jitter and scheduling delays.
    ensure!(delays.windows(3).all(|three| three[0] < three[2]), "the delays did not grow");

    console.heading("Then the endpoint is disabled, with a reason");
    let disabled = |endpoint: &Endpoint| endpoint.state == "disabled";
    let id = &broken.endpoint.id;
    let endpoint = fixture.account.until_endpoint(id, "is disabled", SOON, disabled).await?;
    let reason = endpoint.disabled.map(|disabled| disabled.reason).context("there is no reason")?;
    let failures = endpoint.failure_count;
    console.line(
        Colour::Bad,
        broken.name,
        &format!("disabled: {reason}, {failures} failures in a row"),
    );
    let error = endpoint.last_error.context("there is no last error")?;
    console.line(Colour::Bad, broken.name, &format!("last error: {}", error.message));
    let delivery = fixture.account.delivery(&error.delivery_id).await?;
    let last = delivery.attempts.last().context("there is no attempt")?;
    let response = last.response.as_ref().context("there is no response")?;
    let (number, status, body) = (last.number, response.status, &response.body);
    let record = format!("recorded: attempt {number} got {status} \"{body}\"");
    console.line(Colour::Bad, broken.name, &record);
    Ok(())
}

async fn held(console: &Console, fixture: &Fixture, broken: &DemoEndpoint) -> Result<()> {
    console.heading("Deliveries to a disabled endpoint are held, not lost");
    for n in 5..=6 {
        publish(console, fixture, ORDER, &json!({"order": n, "total": "12.50"})).await?;
    }
    let held = fixture.account.endpoint(&broken.endpoint.id).await?.held;
    ensure!(held == 2, "{held} deliveries are held, not 2");
    console.line(Colour::Plain, broken.name, &format!("{held} deliveries are held"));
    Ok(())
}

async fn emailed(console: &Console, fixture: &Fixture, broken: &DemoEndpoint) -> Result<()> {
    console.heading("The account is notified by email");
    let mail = fixture.mail.wait_for(1, SOON).await?.remove(0);
    ensure!(mail.text.contains(&broken.endpoint.id), "the email is not about this endpoint");
    console.line(Colour::Plain, "mail", &format!("to {}: {}", mail.to.join(", "), mail.subject));
    console.quote(&mail.text);
    Ok(())
}

async fn recovered(console: &Console, fixture: &Fixture, broken: &DemoEndpoint) -> Result<()> {
    console.heading("Once fixed and enabled, the endpoint receives the held deliveries");
    broken.hook.set_behaviour(Behaviour::default());
    let id = &broken.endpoint.id;
    fixture.account.enable(id, "resume").await?;
    console.line(Colour::Plain, broken.name, "returns 200 again and is enabled");
    let received = broken.hook.wait_for(ATTEMPTS + 2, SOON).await?;
    for request in &received[ATTEMPTS..] {
        arrival(console, broken, request)?;
    }

    let deliveries = fixture.account.deliveries(id).await?;
    let exhausted = deliveries.iter().find(|delivery| delivery.state == "exhausted");
    let delivery = &exhausted.context("the delivery that was exhausted")?.id;
    console.line(Colour::Plain, "you", "retry the exhausted delivery");
    let path = fixture.account.path(&format!("/deliveries/{delivery}/retry"));
    fixture.account.api.post(&path, &json!({})).await?.succeeded()?;
    let received = broken.hook.wait_for(ATTEMPTS + 3, SOON).await?;
    arrival(console, broken, &received[ATTEMPTS + 2])?;
    let recovered = |endpoint: &Endpoint| endpoint.pending == 0 && endpoint.failure_count == 0;
    fixture.account.until_endpoint(id, "has recovered", SOON, recovered).await?;
    Ok(())
}

/// Stops the node once the dashboard is no longer needed.
pub async fn close(console: &Console, mut fixture: Fixture) -> Result<()> {
    console.heading("The end");
    console.until_enter("The dashboard stays available until you press Enter.").await?;
    fixture.node.stop().await?;
    console.line(Colour::Plain, "node", "has shut down gracefully; nothing was lost");
    Ok(())
}

async fn publish(
    console: &Console,
    fixture: &Fixture,
    event_type: &str,
    payload: &serde_json::Value,
) -> Result<()> {
    let accepted = fixture.account.publish(event_type, &payload.to_string()).await?;
    let what = format!("publish {event_type} {payload} to {} endpoints", accepted.deliveries);
    console.line(Colour::Plain, "you", &what.replace("1 endpoints", "1 endpoint"));
    Ok(())
}

/// Prints a webhook that got 200.
fn arrival(console: &Console, endpoint: &DemoEndpoint, request: &Received) -> Result<()> {
    request.verify(secret(endpoint))?;
    let event_type = request.header("webhook-event-type").unwrap_or_default();
    let body = String::from_utf8_lossy(&request.body);
    let what = format!("received {event_type} {body}, signature verified, returned 200");
    console.line(Colour::Good, endpoint.name, &what);
    Ok(())
}

fn secret(endpoint: &DemoEndpoint) -> &str {
    endpoint.endpoint.signing_secret.as_deref().unwrap_or_default()
}
