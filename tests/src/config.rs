//! Builder for a node's configuration file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use serde_json::{Value, json};

/// A node's configuration. Values are JSON scalars and lists of them, which look the same in TOML.
#[derive(Clone, Debug)]
pub struct Config {
    sections: BTreeMap<String, BTreeMap<String, Value>>,
    environment: BTreeMap<String, String>,
}

impl Config {
    /// The product's defaults, with loopback targets allowed, which tests need.
    #[must_use]
    pub fn new() -> Self {
        let empty = Self { sections: BTreeMap::new(), environment: BTreeMap::new() };
        empty.set("delivery", "allow_private_targets", json!(["127.0.0.0/8"]))
    }

    /// Four attempts within 6 s: timeouts of 1 s, delays of about 0.25, 0.6 and 1.5 s.
    #[must_use]
    pub fn short_retries() -> Self {
        Self::new().timeout("1s").retry("6s", 3)
    }

    #[must_use]
    pub fn set(mut self, section: &str, key: &str, value: impl Into<Value>) -> Self {
        self.sections.entry(section.to_owned()).or_default().insert(key.to_owned(), value.into());
        self
    }

    #[must_use]
    pub fn get(&self, section: &str, key: &str) -> Option<&Value> {
        self.sections.get(section)?.get(key)
    }

    #[must_use]
    pub fn has_section(&self, section: &str) -> bool {
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

    /// Rejects loopback and private targets, as the product does by default.
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

    /// Sets an environment variable of the node.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The node's additional environment variables.
    pub fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The file's text for a node with this data directory and this port on 127.0.0.1.
    #[must_use]
    pub fn toml(&self, data_dir: &Path, port: u16) -> String {
        self.toml_at(data_dir, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// Like [`Self::toml`], for any address.
    #[must_use]
    pub fn toml_at(&self, data_dir: &Path, listen: SocketAddr) -> String {
        let complete = self
            .clone()
            .set("node", "data_dir", data_dir.to_string_lossy().as_ref())
            .set("http", "listen", listen.to_string());
        let mut text = String::new();
        for (section, keys) in &complete.sections {
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
        let text = Config::short_retries().toml(Path::new("/data"), 8080);
        assert_eq!(
            text,
            "[delivery]\nallow_private_targets = [\"127.0.0.0/8\"]\ntimeout = \"1s\"\n\
             [http]\nlisten = \"127.0.0.1:8080\"\n\
             [node]\ndata_dir = \"/data\"\n\
             [retry]\nmax_retries = 3\nwindow = \"6s\"\n"
        );
    }
}
