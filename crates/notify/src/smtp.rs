//! The mail server: one connection and one conversation for each email.
//!
//! The conversation is led here, step by step, because what a refusal means depends on the step:
//! a refused recipient says nothing about the others, while a server that refuses the sender has
//! to be put right by the operator and must not cost anybody's notice.
//!
//! A conversation that breaks off before the server has taken the sender says that the server
//! cannot be used. One that breaks off later may do so because of this very email (a relay that
//! dislikes a link closes the connection, a scanner takes too long), so the email is only put off:
//! it would break off again, and the others must not wait for it.

mod server;

use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::Mechanism;
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;

use postrider_domain::email::Verdict;
use tokio::time::Instant;

use server::Security;
pub use server::{Sender, SenderError, Server, ServerError};

/// Longest time for one conversation, from the connection to the server's last word.
pub(crate) const CONVERSATION: Duration = Duration::from_secs(60);
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

/// What the server said in a conversation that got as far as the recipients.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conversation {
    /// One verdict for each recipient, in their order.
    pub(crate) verdicts: Vec<Verdict>,
    /// It broke off. Those of whom the server had not said anything final are put off.
    pub(crate) broke_off: bool,
}

/// Why a conversation was broken off.
struct BrokeOff(String);

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

    /// Sends `message` to each of `recipients` in one conversation.
    pub(crate) async fn send(
        &self,
        recipients: &[Address],
        message: &[u8],
    ) -> Result<Conversation, Away> {
        let deadline = Instant::now() + CONVERSATION;
        let mut connection = self.by(deadline, self.connect()).await?;
        let talked = match self.by(deadline, self.open(&mut connection)).await {
            Ok(()) => Ok(self.hand_over(deadline, &mut connection, recipients, message).await),
            Err(away) => Err(away),
        };
        let _ = tokio::time::timeout(GOODBYE, connection.quit()).await;
        talked
    }

    async fn by<T>(
        &self,
        deadline: Instant,
        step: impl Future<Output = Result<T, Away>>,
    ) -> Result<T, Away> {
        let done = tokio::time::timeout_at(deadline, step).await;
        done.unwrap_or_else(|_| Err(Away(self.late())))
    }

    fn late(&self) -> String {
        format!("{} took more than {CONVERSATION:?} for an email", self.server)
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

    /// Names the sender, which is the same for every email.
    async fn open(&self, connection: &mut AsyncSmtpConnection) -> Result<(), Away> {
        let from = Mail::new(Some(self.sender.0.email.clone()), vec![]);
        let opened = connection.command(from).await;
        opened.map(drop).map_err(|error| self.away("refuses the sender", &error))
    }

    /// Names the recipients and hands the email over.
    async fn hand_over(
        &self,
        deadline: Instant,
        connection: &mut AsyncSmtpConnection,
        recipients: &[Address],
        message: &[u8],
    ) -> Conversation {
        let mut verdicts = Vec::with_capacity(recipients.len());
        let talking = self.talk(connection, recipients, message, &mut verdicts);
        let BrokeOff(reason) = match tokio::time::timeout_at(deadline, talking).await {
            Ok(Ok(())) => return Conversation { verdicts, broke_off: false },
            Ok(Err(broke_off)) => broke_off,
            Err(_) => BrokeOff(self.late()),
        };
        let put_off = |verdict| match verdict {
            Some(Verdict::Accepted) | None => Verdict::Deferred(reason.clone()),
            Some(verdict) => verdict,
        };
        let mut said = verdicts.into_iter();
        let verdicts = recipients.iter().map(|_| put_off(said.next())).collect();
        Conversation { verdicts, broke_off: true }
    }

    async fn talk(
        &self,
        connection: &mut AsyncSmtpConnection,
        recipients: &[Address],
        message: &[u8],
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), BrokeOff> {
        for recipient in recipients {
            let answer = connection.command(Rcpt::new(recipient.clone(), vec![])).await;
            verdicts.push(self.verdict(answer.err())?);
        }
        if verdicts.contains(&Verdict::Accepted) {
            let overall = self.verdict(deliver(connection, message).await.err())?;
            for verdict in verdicts.iter_mut().filter(|verdict| **verdict == Verdict::Accepted) {
                *verdict = overall.clone();
            }
        }
        Ok(())
    }

    /// What an answer to a recipient or to the email itself means.
    fn verdict(&self, error: Option<Error>) -> Result<Verdict, BrokeOff> {
        let Some(error) = error else {
            return Ok(Verdict::Accepted);
        };
        match error.status().map(u16::from) {
            // It wants a login, perhaps for some recipients alone: the operator can mend that.
            Some(530) => Ok(Verdict::Deferred(in_full(&error))),
            None | Some(421) => {
                Err(BrokeOff(format!("{} closed the connection: {}", self.server, in_full(&error))))
            }
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
