//! The cookie: the secret that all nodes of a cluster share. Without TLS it is the only
//! authentication; with TLS it is required in addition to a certificate.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// The minimum length of a cookie, in characters.
pub const MIN_COOKIE_CHARS: usize = 32;
/// The maximum length of a cookie, in characters.
const MAX_COOKIE_CHARS: usize = 1_024;
/// The permission bits of users other than the owner.
const GROUP_AND_OTHERS: u32 = 0o077;

/// The secret that all nodes share. Clones are cheap. Its `Debug` output is redacted.
#[derive(Clone)]
pub struct Cookie(Arc<str>);

/// The cookie cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CookieError {
    /// The cookie is too short or too long.
    #[error(
        "the cookie must be {MIN_COOKIE_CHARS} to {MAX_COOKIE_CHARS} visible characters; it has {0}"
    )]
    Length(usize),
    /// The cookie contains a space, a control character or a character outside ASCII.
    #[error("the cookie must consist of visible ASCII characters, on one line")]
    InvalidCharacter,
    /// Other users can read the file.
    #[error("{} is accessible to other users (mode {mode:03o}): run chmod 600 on it, and create a new \
         cookie if others may have read this one", path.display())]
    Exposed {
        /// The path of the file.
        path: PathBuf,
        /// The file's permissions.
        mode: u32,
    },
    /// The file does not contain a valid cookie.
    #[error("{}", path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<CookieError>,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Cookie {
    /// The fingerprint that identifies the cookie without revealing it: SHA-256 over a fixed prefix
    /// and the cookie.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::new_with_prefix(b"postrider cookie\0")
            .chain_update(self.0.as_bytes())
            .finalize()
            .into()
    }

    /// Parses a cookie: [`MIN_COOKIE_CHARS`] to 1,024 visible ASCII characters. Surrounding white
    /// space is ignored.
    ///
    /// # Errors
    /// `Length` or `InvalidCharacter`.
    pub fn parse(text: &str) -> Result<Self, CookieError> {
        let text = text.trim();
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(CookieError::InvalidCharacter);
        }
        if !(MIN_COOKIE_CHARS..=MAX_COOKIE_CHARS).contains(&text.len()) {
            return Err(CookieError::Length(text.len()));
        }
        Ok(Self(text.into()))
    }

    /// Reads a cookie from a file. Only the owner may have permissions on the file.
    ///
    /// # Errors
    /// `Read`, `Exposed`, or `File` with the reason why the content is not a cookie.
    pub fn read(path: &Path) -> Result<Self, CookieError> {
        let unreadable = |source| CookieError::Read { path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
        if mode & GROUP_AND_OTHERS != 0 {
            return Err(CookieError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        let max = u64::try_from(2 * MAX_COOKIE_CHARS).expect("a small number");
        file.take(max).read_to_string(&mut text).map_err(unreadable)?;
        Self::parse(&text)
            .map_err(|source| CookieError::File { path: path.to_owned(), source: source.into() })
    }

    /// The secret in plain text.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "0123456789abcdef0123456789abcdef";

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cookie");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_cookie_is_long_and_visible_ascii() {
        assert_eq!(Cookie::parse(GOOD).unwrap().reveal(), GOOD);
        assert!(matches!(Cookie::parse(&GOOD[1..]), Err(CookieError::Length(31))));
        assert!(matches!(Cookie::parse(""), Err(CookieError::Length(0))));
        assert!(matches!(Cookie::parse(&"x".repeat(1_025)), Err(CookieError::Length(_))));
        for hidden in [' ', '\n', '\0', 'é'] {
            let text = format!("{GOOD}{hidden}{GOOD}");
            assert!(
                matches!(Cookie::parse(&text), Err(CookieError::InvalidCharacter)),
                "{hidden:?}"
            );
        }
    }

    #[test]
    fn debug_output_is_redacted() {
        assert_eq!(format!("{:?}", Cookie::parse(GOOD).unwrap()), "Cookie(hidden)");
    }

    #[test]
    fn a_file_that_only_the_owner_can_read_is_accepted() {
        for mode in [0o600, 0o400] {
            let (_dir, path) = file(&format!("{GOOD}\n"), mode);
            assert_eq!(Cookie::read(&path).unwrap().reveal(), GOOD);
        }
    }

    #[test]
    fn a_file_that_others_can_access_is_rejected() {
        for mode in [0o644, 0o640, 0o604, 0o620] {
            let (_dir, path) = file(GOOD, mode);
            let error = Cookie::read(&path).unwrap_err();
            assert!(matches!(error, CookieError::Exposed { .. }), "{error}");
            assert!(error.to_string().contains(&format!("mode {mode:o}")), "{error}");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn a_file_without_a_cookie_is_rejected_and_named() {
        for text in ["", "\n", "short", &"x".repeat(10_000)] {
            let (_dir, path) = file(text, 0o600);
            let error = Cookie::read(&path).unwrap_err();
            assert!(matches!(error, CookieError::File { .. }), "{error}");
            assert!(error.to_string().ends_with("cookie"), "{error}");
        }
        let missing = Path::new("/nonexistent/cookie");
        assert!(matches!(Cookie::read(missing), Err(CookieError::Read { .. })));
    }
}
