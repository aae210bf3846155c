//! A request as a curl command for a POSIX shell. URL, headers and body are quoted so that neither
//! the shell nor curl interprets them.

use std::fmt::Write as _;

use postrider_domain::attempt::RequestHead;

/// The maximum size in bytes of a body within the command. A larger body is read from a file.
const MAX_BODY_BYTES: usize = 8 * 1024;
/// The file for a larger body.
pub(crate) const BODY_FILE: &str = "body.json";
/// Headers that curl sets on its own, from the URL and the body.
const SET_BY_CURL: [&str; 2] = ["host", "content-length"];

/// The command. Without a `body`, the command reads it from the file.
pub(crate) fn command(request: &RequestHead, body: Option<&[u8]>) -> String {
    let body = Body::of(body);
    let mut command = match body {
        Body::Escaped(bytes) => format!("printf {} | curl", shell_quoted(&printf_format(bytes))),
        Body::Text(_) | Body::File => "curl".to_owned(),
    };
    command.push_str(" --include --request POST");
    if request.url.contains(['[', ']', '{', '}']) {
        command.push_str(" --globoff");
    }
    if has_dot_segments(&request.url) {
        command.push_str(" --path-as-is");
    }
    argument(&mut command, "--url", &request.url);
    for (name, value) in &request.headers {
        if !SET_BY_CURL.iter().any(|set| set.eq_ignore_ascii_case(name)) {
            argument(&mut command, "--header", &header(name, value));
        }
    }
    match body {
        Body::Text(text) => argument(&mut command, "--data-raw", text),
        Body::Escaped(_) => argument(&mut command, "--data-binary", "@-"),
        Body::File => argument(&mut command, "--data-binary", &format!("@{BODY_FILE}")),
    }
    command
}

/// Whether curl would remove parts of the path, such as `..` or `%2e`.
fn has_dot_segments(url: &str) -> bool {
    let path = url.split('?').next().unwrap_or_default();
    path.split('/').any(|segment| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        matches!(segment.as_str(), "." | "..")
    })
}

/// Whether the command reads the body from a file that the user has to create first.
pub(crate) fn needs_file(body: Option<&[u8]>) -> bool {
    matches!(Body::of(body), Body::File)
}

/// How the command passes the body.
#[derive(Clone, Copy)]
enum Body<'a> {
    /// As an argument.
    Text(&'a str),
    /// Through printf, because some bytes would not survive copy and paste.
    Escaped(&'a [u8]),
    /// From a file.
    File,
}

impl<'a> Body<'a> {
    fn of(body: Option<&'a [u8]>) -> Self {
        let Some(bytes) = body.filter(|bytes| bytes.len() <= MAX_BODY_BYTES) else {
            return Self::File;
        };
        match std::str::from_utf8(bytes) {
            Ok(text) if text.chars().all(survives_copying) => Self::Text(text),
            _ => Self::Escaped(bytes),
        }
    }
}

fn survives_copying(c: char) -> bool {
    matches!(c, '\n' | '\t') || !c.is_control()
}

fn argument(command: &mut String, option: &str, value: &str) {
    let _ = write!(command, " \\\n  {option} {}", shell_quoted(value));
}

/// A header argument. curl would drop an empty header that ends in a colon.
fn header(name: &str, value: &str) -> String {
    if value.is_empty() { format!("{name};") } else { format!("{name}: {value}") }
}

/// One shell word. Within single quotes, only the single quote itself is special.
fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The format string with which printf(1) writes these bytes.
fn printf_format(bytes: &[u8]) -> String {
    let mut format = String::with_capacity(bytes.len() * 2);
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            // Some implementations take a leading dash for an option.
            b'-' if at == 0 => format.push_str(r"\055"),
            b'%' => format.push_str("%%"),
            b'\\' => format.push_str(r"\\"),
            b'\r' => format.push_str(r"\r"),
            b'\n' | b' '..=b'~' => format.push(char::from(byte)),
            _ => {
                let _ = write!(format, r"\{byte:03o}");
            }
        }
    }
    format
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Characters that are special in some shell or in curl.
    const SPECIAL: &str = "it's \"odd\" $HOME ${HOME} $(id) `id` \\n \\\\ \\' '' ! !! & | ; < > * ? \
                       [a-z] {a,b} ~ # % %s %n @file\t\n-end é 漢 \u{202e} 🦀";

    fn request(url: &str, headers: &[(&str, &str)]) -> RequestHead {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        RequestHead { url: url.into(), headers: headers.collect() }
    }

    /// The arguments that the shell passes to curl, and curl's standard input.
    fn run(shell: &str, command: &str) -> (Vec<String>, Vec<u8>) {
        let curl =
            r#"curl() { for argument; do printf '%s\0' "$argument"; done; printf '\0'; cat; }"#;
        let mut process = Command::new(shell);
        let process = process.args(["-c", &format!("{curl}\n{command}\n")]).stdin(Stdio::null());
        let output = process.output().unwrap();
        assert!(output.status.success(), "{command}\n{output:?}");
        let end = output.stdout.windows(2).position(|two| two == b"\0\0").unwrap();
        let arguments = String::from_utf8(output.stdout[..end].to_vec()).unwrap();
        (arguments.split('\0').map(str::to_owned).collect(), output.stdout[end + 2..].to_vec())
    }

    /// The installed shells.
    fn shells() -> impl Iterator<Item = &'static str> {
        let is_installed = |shell: &&str| Command::new(shell).args(["-c", ":"]).status().is_ok();
        ["sh", "bash", "dash", "zsh", "ksh"].into_iter().filter(is_installed)
    }

    #[test]
    fn the_shell_interprets_nothing() {
        let url = "https://example.com/a?b='$(id)'&c=[1-9]{x,y}";
        let special_value = SPECIAL.replace(['\n', '\t'], " ");
        let headers = [
            ("host", "example.com"),
            ("content-length", "3"),
            ("x-odd", special_value.as_str()),
            ("x-empty", ""),
        ];
        let command = command(&request(url, &headers), Some(SPECIAL.as_bytes()));
        for shell in shells() {
            let (arguments, stdin) = run(shell, &command);
            let special_header = format!("x-odd: {special_value}");
            let expected = [
                "--include",
                "--request",
                "POST",
                "--globoff",
                "--url",
                url,
                "--header",
                &special_header,
                "--header",
                "x-empty;",
                "--data-raw",
                SPECIAL,
            ];
            assert_eq!(arguments, expected, "{shell}");
            assert!(stdin.is_empty());
        }
    }

    #[test]
    fn curl_keeps_the_path() {
        let is_kept = |url: &str| command(&request(url, &[]), None).contains(" --path-as-is ");
        for path in ["/a/../b", "/.", "/%2e%2E/x", "/.%2e?a"] {
            assert!(is_kept(&format!("https://example.com{path}")), "{path}");
        }
        for path in ["/a..b/...", "/?a=/../", "/.well-known/x"] {
            assert!(!is_kept(&format!("https://example.com{path}")), "{path}");
        }
    }

    #[test]
    fn bytes_that_do_not_survive_copying_are_printed() {
        let all: Vec<u8> = (0..=255).collect();
        for body in [&b"{\r\n \"a\": \"50% \\\\ 'x'\"\r\n}\n"[..], &all, b"\xff", b"-1\r\n"] {
            let command = command(&request("https://example.com/", &[]), Some(body));
            assert!(command.chars().all(survives_copying), "{command:?}");
            for shell in shells() {
                let (arguments, stdin) = run(shell, &command);
                assert_eq!(stdin, body, "{shell}: {command}");
                assert_eq!(
                    arguments[3..],
                    ["--url", "https://example.com/", "--data-binary", "@-"]
                );
            }
        }
    }

    #[test]
    fn a_large_body_is_read_from_a_file() {
        let large = vec![b'1'; MAX_BODY_BYTES + 1];
        for body in [Some(&large[..]), None] {
            let command = command(&request("https://example.com/", &[]), body);
            assert!(command.len() < 200 && command.ends_with("--data-binary '@body.json'"));
            assert!(needs_file(body));
        }
        assert!(!needs_file(Some(&large[1..])));
    }

    #[test]
    fn a_simple_command_is_readable() {
        let headers = [("content-type", "application/json"), ("webhook-id", "evt_1")];
        let command = command(&request("https://example.com/", &headers), Some(b"{\"a\": 1}"));
        let expected = r#"curl --include --request POST \
  --url 'https://example.com/' \
  --header 'content-type: application/json' \
  --header 'webhook-id: evt_1' \
  --data-raw '{"a": 1}'"#;
        assert_eq!(command, expected);
    }
}
