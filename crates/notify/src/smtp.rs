//! The mail server: one connection and one conversation for each email.
//!
//! The conversation is led here, step by step, because what a refusal means depends on the step:
//! a refused recipient says nothing about the others, while a server that refuses the sender has
//! to be put right by the operator and must not cost anybody's notice.

mod server;

use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::Mechanism;
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;

use postrider_domain::email::Verdict;
use server::Security;
pub use server::{Sender, SenderError, Server, ServerError};

/// Longest time for one email, from the connection to the server's last word.
const CONVERSATION: Duration = Duration::from_secs(60);
/// Longest time for saying goodbye, when the email is safe already.
const GOODBYE: Duration = Duration::from_secs(1);
/// Ways to log in, the better first.
const MECHANISMS: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];

/// Hands emails to a mail server.
pub struct Mailer {
    server: Server,
    tls: Option<TlsParameters>,
    sender: Sender,
}

/// The machine cannot speak TLS, for instance for want of root certificates.
#[derive(Debug, thiserror::Error)]
#[error("TLS to the mail server {server} cannot be set up")]
pub struct MailerError {
    server: Server,
    source: Error,
}

/// The server cannot be used at all at the moment; nobody was reached. What it would say of the
/// recipients is not known.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub(crate) struct Away(String);

impl Mailer {
    /// Emails from `sender` through `server`. Nothing is connected yet.
    ///
    /// # Errors
    /// When the server wants TLS, and TLS cannot be set up.
    pub fn new(server: Server, sender: Sender) -> Result<Self, MailerError> {
        let tls = match server.security {
            Security::None => None,
            Security::StartTls | Security::Tls => {
                let parameters = TlsParameters::new(server.host.clone());
                Some(parameters.map_err(|source| MailerError { server: server.clone(), source })?)
            }
        };
        Ok(Self { server, tls, sender })
    }

    pub(crate) fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Sends `message` to each of `recipients`: one verdict for each, in their order.
    pub(crate) async fn send(
        &self,
        recipients: &[Address],
        message: &[u8],
    ) -> Result<Vec<Verdict>, Away> {
        let conversation = async {
            let mut connection = self.connect().await?;
            let verdicts = self.talk(&mut connection, recipients, message).await;
            let _ = tokio::time::timeout(GOODBYE, connection.quit()).await;
            verdicts
        };
        let late = || Away(format!("{} took more than {CONVERSATION:?} for an email", self.server));
        tokio::time::timeout(CONVERSATION, conversation).await.unwrap_or_else(|_| Err(late()))
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Away> {
        let hello = ClientId::default();
        let (at_once, later) = match self.server.security {
            Security::None => (None, None),
            Security::StartTls => (None, self.tls.clone()),
            Security::Tls => (self.tls.clone(), None),
        };
        let address = (self.server.host.as_str(), self.server.port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(address, Some(CONVERSATION), &hello, at_once, None)
                .await
                .map_err(|error| self.away("cannot be reached", &error))?;
        if let Some(tls) = later {
            let upgraded = connection.starttls(tls, &hello).await;
            upgraded.map_err(|error| self.away("does not start TLS", &error))?;
        }
        if let Some(credentials) = &self.server.credentials {
            let login = connection.auth(&MECHANISMS, credentials).await;
            login.map_err(|error| self.away("refuses the login", &error))?;
        }
        Ok(connection)
    }

    async fn talk(
        &self,
        connection: &mut AsyncSmtpConnection,
        recipients: &[Address],
        message: &[u8],
    ) -> Result<Vec<Verdict>, Away> {
        let from = Mail::new(Some(self.sender.0.email.clone()), vec![]);
        let begun = connection.command(from).await;
        begun.map_err(|error| self.away("refuses the sender", &error))?;

        let mut verdicts = Vec::with_capacity(recipients.len());
        for recipient in recipients {
            let answer = connection.command(Rcpt::new(recipient.clone(), vec![])).await;
            verdicts.push(self.verdict(answer.err())?);
        }
        if verdicts.contains(&Verdict::Accepted) {
            let overall = self.verdict(deliver(connection, message).await.err())?;
            for verdict in &mut verdicts {
                if *verdict == Verdict::Accepted {
                    *verdict = overall.clone();
                }
            }
        }
        Ok(verdicts)
    }

    /// What an answer to a recipient or to the email itself means.
    fn verdict(&self, error: Option<Error>) -> Result<Verdict, Away> {
        let Some(error) = error else {
            return Ok(Verdict::Accepted);
        };
        match error.status().map(u16::from) {
            // The service closes; it wants a login: true for whatever else it would be asked.
            None | Some(421 | 530) => Err(self.away("broke off", &error)),
            Some(code) if code >= 500 => Ok(Verdict::Refused(in_full(&error))),
            Some(_) => Ok(Verdict::Deferred(in_full(&error))),
        }
    }

    fn away(&self, what: &str, error: &Error) -> Away {
        Away(format!("{} {what}: {}", self.server, in_full(error)))
    }
}

async fn deliver(connection: &mut AsyncSmtpConnection, message: &[u8]) -> Result<(), Error> {
    connection.command(Data).await?;
    connection.message(message).await?;
    Ok(())
}

/// An error with what caused it; lettre's own text often leaves the cause to its source.
fn in_full(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
