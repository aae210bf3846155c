//! The cookie: the secret that all nodes of a cluster share. It keeps strangers out where there
//! is no TLS, and makes a certificate alone not enough where there is.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The fewest characters of a cookie.
pub const MIN_COOKIE: usize = 32;
/// The most characters of a cookie.
const MAX_COOKIE: usize = 1_024;
/// Permission bits that others than the owner have.
const OTHERS: u32 = 0o077;

/// The secret that all nodes share. Clones are cheap. It shows itself to nobody.
#[derive(Clone)]
pub struct Cookie(Arc<str>);

/// There is no usable cookie.
#[derive(Debug, thiserror::Error)]
pub enum CookieError {
    /// It is no secret worth the name.
    #[error("the cookie must be {MIN_COOKIE} to {MAX_COOKIE} visible characters; it has {0}")]
    Length(usize),
    /// It holds what nobody sees.
    #[error("the cookie must be visible ASCII characters only, on one line")]
    Invisible,
    /// Others may read the file.
    #[error("{} can be read by others (mode {mode:03o}): chmod 600 it, and make a new cookie if \
         others may have seen this one", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file does not hold a cookie.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<CookieError>,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Cookie {
    /// Takes a text as cookie. Space around it does not count.
    ///
    /// # Errors
    /// If it is too short, too long, or not visible.
    pub fn parse(text: &str) -> Result<Self, CookieError> {
        let text = text.trim();
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(CookieError::Invisible);
        }
        if !(MIN_COOKIE..=MAX_COOKIE).contains(&text.len()) {
            return Err(CookieError::Length(text.len()));
        }
        Ok(Self(text.into()))
    }

    /// Reads the cookie from a file that its owner alone may read.
    ///
    /// # Errors
    /// If the file cannot be read, can be read by others, or holds no cookie.
    pub fn read(path: &Path) -> Result<Self, CookieError> {
        let unreadable = |source| CookieError::Read { path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(CookieError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        let most = u64::try_from(2 * MAX_COOKIE).expect("a small number");
        file.take(most).read_to_string(&mut text).map_err(unreadable)?;
        Self::parse(&text)
            .map_err(|source| CookieError::File { path: path.to_owned(), source: source.into() })
    }

    /// The secret itself.
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
    fn a_cookie_is_long_and_visible() {
        assert_eq!(Cookie::parse(GOOD).unwrap().reveal(), GOOD);
        assert!(matches!(Cookie::parse(&GOOD[1..]), Err(CookieError::Length(31))));
        assert!(matches!(Cookie::parse(""), Err(CookieError::Length(0))));
        assert!(matches!(Cookie::parse(&"x".repeat(1_025)), Err(CookieError::Length(_))));
        for hidden in [' ', '\n', '\0', 'é'] {
            let text = format!("{GOOD}{hidden}{GOOD}");
            assert!(matches!(Cookie::parse(&text), Err(CookieError::Invisible)), "{hidden:?}");
        }
    }

    #[test]
    fn a_cookie_shows_itself_to_nobody() {
        assert_eq!(format!("{:?}", Cookie::parse(GOOD).unwrap()), "Cookie(hidden)");
    }

    #[test]
    fn a_file_that_the_owner_alone_can_read_is_taken() {
        for mode in [0o600, 0o400] {
            let (_dir, path) = file(&format!("{GOOD}\n"), mode);
            assert_eq!(Cookie::read(&path).unwrap().reveal(), GOOD);
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        for mode in [0o644, 0o640, 0o604, 0o620] {
            let (_dir, path) = file(GOOD, mode);
            let error = Cookie::read(&path).unwrap_err();
            assert!(matches!(error, CookieError::Exposed { .. }), "{error}");
            assert!(error.to_string().contains(&format!("mode {mode:o}")), "{error}");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn a_file_without_a_cookie_is_refused_and_named() {
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
