//! A request as a command that makes it again: curl, for a POSIX shell. Whatever the URL, the
//! headers and the body hold, the shell and curl take it as text.

use std::fmt::Write as _;

use postrider_domain::delivery::RequestHead;

/// Largest body that stands in the command itself. A larger one is read from a file.
const MAX_BODY_BYTES: usize = 8 * 1024;
/// The file that a larger body is read from.
pub(crate) const BODY_FILE: &str = "body.json";
/// What curl says by itself: the host is in the URL, and the length is the body's.
const SAID_BY_CURL: [&str; 2] = ["host", "content-length"];

/// The command. `body` is what was sent; none when it is not at hand.
pub(crate) fn command(request: &RequestHead, body: Option<&[u8]>) -> String {
    let body = Body::of(body);
    let mut command = match body {
        Body::Escaped(bytes) => format!("printf {} | curl", quoted(&printf_format(bytes))),
        Body::Text(_) | Body::File => "curl".to_owned(),
    };
    command.push_str(" --include --request POST");
    if request.url.contains(['[', ']', '{', '}']) {
        command.push_str(" --globoff");
    }
    argument(&mut command, "--url", &request.url);
    for (name, value) in &request.headers {
        if !SAID_BY_CURL.contains(&name.as_str()) {
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

/// Whether the command reads the body from a file that somebody must make first.
pub(crate) fn needs_file(body: Option<&[u8]>) -> bool {
    matches!(Body::of(body), Body::File)
}

/// How the command comes by its body.
#[derive(Clone, Copy)]
enum Body<'a> {
    /// It is an argument.
    Text(&'a str),
    /// It has bytes that are lost or changed when a text is copied, and is printed to curl.
    Escaped(&'a [u8]),
    /// It is a file.
    File,
}

impl<'a> Body<'a> {
    fn of(body: Option<&'a [u8]>) -> Self {
        let Some(bytes) = body.filter(|bytes| bytes.len() <= MAX_BODY_BYTES) else {
            return Self::File;
        };
        match std::str::from_utf8(bytes) {
            Ok(text) if text.chars().all(is_copied_well) => Self::Text(text),
            _ => Self::Escaped(bytes),
        }
    }
}

fn is_copied_well(c: char) -> bool {
    matches!(c, '\n' | '\t') || !c.is_control()
}

fn argument(command: &mut String, option: &str, value: &str) {
    let _ = write!(command, " \\\n  {option} {}", quoted(value));
}

/// A header as curl takes it; one that ends in a colon would be left out.
fn header(name: &str, value: &str) -> String {
    if value.is_empty() { format!("{name};") } else { format!("{name}: {value}") }
}

/// One word of a shell command: between single quotes everything stands for itself but a single
/// quote.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The format with which printf(1) writes these bytes.
fn printf_format(bytes: &[u8]) -> String {
    let mut format = String::with_capacity(bytes.len() * 2);
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            // Some take a dash at the beginning for an option.
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

    /// What stands in the way of quoting, in several shells and in curl.
    const ODD: &str = "it's \"odd\" $HOME ${HOME} $(id) `id` \\n \\\\ \\' '' ! !! & | ; < > * ? \
                       [a-z] {a,b} ~ # % %s %n @file\t\n-end é 漢 \u{202e} 🦀";

    fn request(url: &str, headers: &[(&str, &str)]) -> RequestHead {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        RequestHead { url: url.into(), headers: headers.collect() }
    }

    /// The arguments that the shell gives to curl, and what curl could read.
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

    /// Every shell that is here.
    fn shells() -> impl Iterator<Item = &'static str> {
        let is_here = |shell: &&str| Command::new(shell).args(["-c", ":"]).status().is_ok();
        ["sh", "bash", "dash", "zsh", "ksh"].into_iter().filter(is_here)
    }

    #[test]
    fn the_shell_takes_everything_as_text() {
        let url = "https://example.com/a?b='$(id)'&c=[1-9]{x,y}";
        let odd_value = ODD.replace(['\n', '\t'], " ");
        let headers = [
            ("host", "example.com"),
            ("content-length", "3"),
            ("x-odd", odd_value.as_str()),
            ("x-empty", ""),
        ];
        let command = command(&request(url, &headers), Some(ODD.as_bytes()));
        for shell in shells() {
            let (arguments, stdin) = run(shell, &command);
            let odd_header = format!("x-odd: {odd_value}");
            let expected = [
                "--include",
                "--request",
                "POST",
                "--globoff",
                "--url",
                url,
                "--header",
                &odd_header,
                "--header",
                "x-empty;",
                "--data-raw",
                ODD,
            ];
            assert_eq!(arguments, expected, "{shell}");
            assert!(stdin.is_empty());
        }
    }

    #[test]
    fn bytes_that_a_copied_text_would_lose_are_printed() {
        let all: Vec<u8> = (0..=255).collect();
        for body in [&b"{\r\n \"a\": \"50% \\\\ 'x'\"\r\n}\n"[..], &all, b"\xff", b"-1\r\n"] {
            let command = command(&request("https://example.com/", &[]), Some(body));
            assert!(command.chars().all(is_copied_well), "{command:?}");
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
    fn a_large_body_is_a_file() {
        let large = vec![b'1'; MAX_BODY_BYTES + 1];
        for body in [Some(&large[..]), None] {
            let command = command(&request("https://example.com/", &[]), body);
            assert!(command.len() < 200 && command.ends_with("--data-binary '@body.json'"));
            assert!(needs_file(body));
        }
        assert!(!needs_file(Some(&large[1..])));
    }

    #[test]
    fn it_reads_as_one_would_write_it() {
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
