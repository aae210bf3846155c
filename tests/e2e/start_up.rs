//! Start-up and shutdown: rejected configurations and their messages, and how a node stops.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use postrider_tests::binary::{self, Ended};
use postrider_tests::config::Config;
use postrider_tests::fixture::Fixture;
use postrider_tests::node::Node;
use postrider_tests::port::Port;
use postrider_tests::receiver::Behaviour;
use postrider_tests::wait::{millis, seconds};
use serde_json::json;
use tokio::time::Instant;

use crate::SOON;

/// Runs `serve` with this configuration file, which must be rejected with exit code 2 and a message
/// that contains these words.
pub(crate) async fn rejected(toml: &str, words: &[&str]) -> Result<Ended> {
    rejected_in(&[], toml, words).await
}

/// Like [`rejected`], with these environment variables.
pub(crate) async fn rejected_in(
    environment: &[(&str, &str)],
    toml: &str,
    words: &[&str],
) -> Result<Ended> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("node.toml");
    fs::write(&file, toml)?;
    let arguments = ["serve", "--config", &*file.to_string_lossy()];
    let ended = binary::run_in(environment, &arguments).await?;
    ensure!(
        ended.code == Some(2),
        "exit code {:?} instead of 2 for\n{toml}\n{}",
        ended.code,
        ended.output
    );
    for word in words {
        ensure!(ended.output.contains(word), "no {word:?} for\n{toml}\n{}", ended.output);
    }
    ensure!(!ended.output.contains("panicked"), "{}", ended.output);
    Ok(ended)
}

#[tokio::test]
async fn an_unknown_config_key_is_rejected_with_its_line() -> Result<()> {
    rejected("[delivery]\n\ntiemout = \"5s\"\n", &["tiemout", "3"]).await?;
    rejected("[node]\nname = \"n\"\n[delivry]\ntimeout = \"5s\"\n", &["delivry", "4"]).await?;
    rejected("[node\n", &["1"]).await?;
    Ok(())
}

#[tokio::test]
async fn an_invalid_config_value_is_rejected_with_its_key() -> Result<()> {
    let cases = [
        ("[delivery]\ntimeout = \"soon\"\n", "timeout"),
        ("[delivery]\ntimeout = 5\n", "timeout"),
        ("[delivery]\nallow_private_targets = [\"127.0.0.0/99\"]\n", "allow_private_targets"),
        ("[retry]\nmax_retries = -1\n", "max_retries"),
        ("[retry]\nfactor = 0.5\n", "factor"),
        ("[retry]\njitter = 2.0\n", "jitter"),
        ("[store]\nkind = \"paper\"\n", "kind"),
        ("[telemetry]\notlp_endpoint = \"grpc://x\"\n", "otlp_endpoint"),
        ("[http]\nlisten = \"nowhere\"\n", "listen"),
        ("[email]\nsmtp_url = \"http://x\"\nfrom = \"a@example.com\"\n", "smtp_url"),
        ("[email]\nsmtp_url = \"smtp://127.0.0.1:25\"\nfrom = \"nobody\"\n", "from"),
    ];
    for (toml, key) in cases {
        rejected(toml, &[key]).await?;
    }
    let missing = binary::run(&["serve", "--config", "/no/such/file.toml"]).await?;
    ensure!(missing.code == Some(2), "{missing:?}");
    ensure!(missing.output.contains("/no/such/file.toml"), "{}", missing.output);
    Ok(())
}

#[tokio::test]
async fn a_retry_window_that_is_too_small_is_rejected_with_the_minimum() -> Result<()> {
    let ended = rejected("[retry]\nwindow = \"20s\"\n", &["window"]).await?;
    // Ten attempts of 5 s before the last retry starts, plus some milliseconds of delays.
    let smallest = ended
        .output
        .split(|c: char| !c.is_ascii_digit())
        .find_map(|number| number.parse::<u32>().ok().filter(|seconds| (50..65).contains(seconds)));
    ensure!(smallest.is_some(), "no minimum window of 50 to 65 s in {}", ended.output);
    Ok(())
}

#[tokio::test]
async fn an_unwritable_data_directory_is_rejected() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("file");
    fs::write(&file, "no directory")?;
    let within = file.join("data");
    let toml = |dir: &Path| Config::new().toml(dir, 1);
    rejected(&toml(&within), &[&within.to_string_lossy()]).await?;
    rejected(&toml(&file), &[&file.to_string_lossy()]).await?;
    // Not even root can create directories there.
    rejected(&toml(Path::new("/proc/postrider")), &["/proc/postrider"]).await?;
    let locked = directory.path().join("locked");
    fs::create_dir(&locked)?;
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500))?;
    if fs::write(locked.join("probe"), "").is_err() {
        rejected(&toml(&locked), &[&locked.to_string_lossy()]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_data_directory_in_use_is_rejected_and_its_owner_keeps_running() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let directory = fixture.node.data_dir().to_owned();
    let port = Port::reserve()?;
    let toml = Config::new().toml(&directory, port.number());
    rejected(&toml, &[&directory.to_string_lossy()]).await?;
    let hook = fixture.hook("unharmed");
    fixture.endpoint(&hook).await?;
    fixture.publish(&json!({})).await?;
    hook.wait_for(1, SOON).await?;
    Ok(())
}

#[tokio::test]
async fn a_port_in_use_is_reported() -> Result<()> {
    let other = Node::start(Config::short_retries()).await?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("node.toml");
    fs::write(&file, Config::new().toml(&directory.path().join("data"), other.port()))?;
    let ended = binary::run(&["serve", "--config", &file.to_string_lossy()]).await?;
    ensure!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
    ensure!(ended.output.contains(&other.port().to_string()), "{}", ended.output);
    Ok(())
}

#[tokio::test]
async fn the_environment_overrides_the_file() -> Result<()> {
    let config = Config::short_retries().env("POSTRIDER_RETRY__MAX_RETRIES", "1");
    let fixture = Fixture::start(config).await?;
    let hook = fixture.hook("twice");
    hook.set_behaviour(Behaviour::status(500));
    let endpoint = fixture.endpoint(&hook).await?;
    fixture.publish(&json!({})).await?;
    let disabled = |e: &postrider_tests::client::records::Endpoint| e.state == "disabled";
    fixture.account.until_endpoint(&endpoint.id, "is disabled", SOON, disabled).await?;
    assert_eq!(hook.received().len(), 2);
    Ok(())
}

#[tokio::test]
async fn the_operator_key_is_generated_privately_or_taken_from_the_environment() -> Result<()> {
    let node = Node::start(Config::short_retries()).await?;
    let file = node.data_dir().join("operator.key");
    assert_eq!(fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    ensure!(
        node.log().contains(&*file.to_string_lossy()),
        "the log does not name the key file: {}",
        node.log()
    );
    let key = fs::read_to_string(&file)?;
    ensure!(!node.log().contains(key.trim()), "the log contains the operator key");
    node.operator_api()?.get("/v1/accounts").await?.expect(200)?;

    let given = "a-key-that-the-operator-chose-0123456789";
    let config = Config::short_retries().env("POSTRIDER_OPERATOR_KEY", given);
    let node = Node::start(config).await?;
    node.api(Some(given)).get("/v1/accounts").await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn a_node_is_ready_within_a_second() -> Result<()> {
    let mut node = Node::start(Config::short_retries()).await?;
    let mut fastest = seconds(60);
    for _ in 0..3 {
        node.stop().await?;
        let began = Instant::now();
        node.restart().await?;
        fastest = fastest.min(began.elapsed());
    }
    // The fastest of three starts, because other tests share the processors.
    ensure!(fastest < seconds(1), "the fastest of three starts took {fastest:?}");
    let (address, data) = (format!("127.0.0.1:{}", node.port()), node.data_dir());
    for word in [address.as_str(), &data.to_string_lossy()] {
        ensure!(node.log().contains(word), "no {word} in {}", node.log());
    }
    Ok(())
}

#[tokio::test]
async fn sigterm_waits_for_attempts_in_flight() -> Result<()> {
    let mut fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("slow");
    hook.set_behaviour(Behaviour::Slow(millis(700)));
    let endpoint = fixture.endpoint(&hook).await?;
    let event = fixture.publish(&json!({})).await?;
    hook.wait_for(1, SOON).await?;
    fixture.node.stop().await?;
    let answered = &hook.received()[0];
    assert_eq!(answered.answered, Some(200), "the attempt in flight was cut off");
    fixture.node.restart().await?;
    let delivery = fixture.account.delivery_of(&event.id, &endpoint.id).await?;
    assert_eq!((delivery.state.as_str(), delivery.attempt_count), ("delivered", 1));
    assert_eq!(hook.received().len(), 1);
    Ok(())
}

#[tokio::test]
async fn sigterm_waits_at_most_one_attempt_timeout() -> Result<()> {
    let mut fixture = Fixture::start(Config::new()).await?;
    let hook = fixture.hook("hang");
    hook.set_behaviour(Behaviour::Hang);
    fixture.endpoint(&hook).await?;
    fixture.publish(&json!({})).await?;
    hook.wait_for(1, SOON).await?;
    let began = Instant::now();
    fixture.node.stop().await?;
    ensure!(began.elapsed() < seconds(8), "{:?}", began.elapsed());
    Ok(())
}

#[tokio::test]
async fn help_describes_commands_and_options() -> Result<()> {
    let cases: [(&[&str], &[&str]); 3] = [
        (&["--help"], &["serve", "listen", "Usage"]),
        (&["serve", "--help"], &["--config", "operator.key", "POSTRIDER_"]),
        (&["listen", "--help"], &["--port", "--fail", "--slow", "--redirect"]),
    ];
    for (arguments, words) in cases {
        let ended = binary::run(arguments).await?;
        ensure!(ended.code == Some(0), "{ended:?}");
        for word in words {
            ensure!(ended.output.contains(word), "no {word} in {}", ended.output);
        }
    }
    let wrong = binary::run(&["sevre"]).await?;
    ensure!(wrong.code == Some(2), "{wrong:?}");
    wrong.output.contains("serve").then_some(()).context("the message does not suggest `serve`")
}
