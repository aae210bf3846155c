//! A node's configuration file, built key by key.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use serde_json::{Value, json};

/// What a configuration file holds. Values are JSON scalars and lists of them, which TOML
/// writes the same way.
#[derive(Clone, Debug)]
pub struct Config {
    sections: BTreeMap<String, BTreeMap<String, Value>>,
    environment: BTreeMap<String, String>,
}

impl Config {
    /// The product's defaults, but for loopback receivers, which tests need.
    #[must_use]
    pub fn new() -> Self {
        let empty = Self { sections: BTreeMap::new(), environment: BTreeMap::new() };
        empty.set("delivery", "allow_private_targets", json!(["127.0.0.0/8"]))
    }

    /// Four attempts within some seconds: 1 s each, delays of about 0.25, 0.6 and 1.5 s.
    #[must_use]
    pub fn impatient() -> Self {
        Self::new().timeout("1s").retry("6s", 3)
    }

    /// Sets one key.
    #[must_use]
    pub fn set(mut self, section: &str, key: &str, value: impl Into<Value>) -> Self {
        self.sections.entry(section.to_owned()).or_default().insert(key.to_owned(), value.into());
        self
    }

    /// What one key is set to.
    #[must_use]
    pub fn get(&self, section: &str, key: &str) -> Option<&Value> {
        self.sections.get(section)?.get(key)
    }

    /// Whether anything is set in a section.
    #[must_use]
    pub fn says_of(&self, section: &str) -> bool {
        self.sections.contains_key(section)
    }

    /// Sets `[delivery] timeout`.
    #[must_use]
    pub fn timeout(self, timeout: &str) -> Self {
        self.set("delivery", "timeout", timeout)
    }

    /// Sets `[retry] window` and `max_retries`.
    #[must_use]
    pub fn retry(self, window: &str, max_retries: u8) -> Self {
        self.set("retry", "window", window).set("retry", "max_retries", max_retries)
    }

    /// Refuses loopback and private receivers, as the product does by default.
    #[must_use]
    pub fn public_targets_only(self) -> Self {
        self.set("delivery", "allow_private_targets", json!([]))
    }

    /// Sends email through the server at `address`.
    #[must_use]
    pub fn smtp(self, address: SocketAddr) -> Self {
        self.set("email", "smtp_url", format!("smtp://{address}")).set(
            "email",
            "from",
            "Postrider <webhooks@example.com>",
        )
    }

    /// Sets a variable of the node's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The node's environment, on top of what it inherits.
    pub fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The file's text, for a node with this data directory and this port of 127.0.0.1.
    #[must_use]
    pub fn toml(&self, data_dir: &Path, port: u16) -> String {
        self.toml_at(data_dir, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// The same for any address.
    #[must_use]
    pub fn toml_at(&self, data_dir: &Path, listen: SocketAddr) -> String {
        let placed = self.clone().set("node", "data_dir", data_dir.to_string_lossy().as_ref()).set(
            "http",
            "listen",
            listen.to_string(),
        );
        let mut text = String::new();
        for (section, keys) in &placed.sections {
            let _ = writeln!(text, "[{section}]");
            for (key, value) in keys {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        text
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_toml() {
        let text = Config::impatient().toml(Path::new("/data"), 8080);
        assert_eq!(
            text,
            "[delivery]\nallow_private_targets = [\"127.0.0.0/8\"]\ntimeout = \"1s\"\n\
             [http]\nlisten = \"127.0.0.1:8080\"\n\
             [node]\ndata_dir = \"/data\"\n\
             [retry]\nmax_retries = 3\nwindow = \"6s\"\n"
        );
    }
}
