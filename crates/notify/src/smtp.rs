//! The mail server: one connection and one SMTP session for each email.
//!
//! The session is driven here, command by command, because the meaning of a rejection depends on
//! the command: a rejected recipient says nothing about the others, while a server that rejects the
//! sender has to be fixed by the operator and must not cause the loss of a notice.
//!
//! If a session is aborted before the server has accepted the sender, the server counts as
//! unavailable. A later abort may be caused by this particular email (a relay that dislikes a link
//! closes the connection, a scanner takes too long), so the email is deferred: its session would be
//! aborted again, and other emails must not wait for it.

mod server;

use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::Mechanism;
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};

use postrider_domain::email::RecipientStatus;
use tokio::time::Instant;

use server::Security;
pub use server::{FromAddress, FromAddressError, HelloName, HelloNameError, Server, ServerError};

/// Timeout of one session, from connecting to the server's last reply.
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_secs(60);
/// Timeout of a check of the server.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout of QUIT, when the email has already been accepted.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);
/// Login mechanisms, in order of preference.
const MECHANISMS: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];

/// Sends emails through a mail server.
pub struct Mailer {
    server: Server,
    tls: Option<TlsParameters>,
    sender: FromAddress,
    hello: HelloName,
}

/// TLS could not be set up, for example because there are no root certificates.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS for the mail server {server}")]
pub struct MailerError {
    server: Server,
    source: Error,
}

/// The server is unavailable. No recipient was tried.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Unavailable(String);

/// The result of a session that got as far as the recipients.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SessionResult {
    /// One status for each recipient, in order.
    pub(crate) statuses: Vec<RecipientStatus>,
    /// The session was aborted. Recipients without a final status are deferred.
    pub(crate) session_aborted: bool,
}

/// Why a session was aborted.
struct Aborted(String);

impl Mailer {
    /// Creates a mailer for emails from `sender` through `server`, to which it introduces itself as
    /// `hello`. It does not connect yet.
    ///
    /// # Errors
    /// If the server requires TLS and TLS cannot be set up.
    pub fn new(server: Server, sender: FromAddress, hello: HelloName) -> Result<Self, MailerError> {
        let tls = match server.security {
            Security::None => None,
            Security::StartTls | Security::Tls => {
                let parameters = TlsParameters::new(server.host.clone());
                Some(parameters.map_err(|source| MailerError { server: server.clone(), source })?)
            }
        };
        Ok(Self { server, tls, sender, hello })
    }

    pub(crate) fn sender(&self) -> &FromAddress {
        &self.sender
    }

    /// Sends `message` to all `recipients` in one session.
    pub(crate) async fn send(
        &self,
        recipients: &[Address],
        message: &[u8],
    ) -> Result<SessionResult, Unavailable> {
        let deadline = Instant::now() + SESSION_TIMEOUT;
        let (mut connection, ready) = self.begin(deadline).await?;
        let result = match ready {
            Ok(()) => Ok(self.send_email(deadline, &mut connection, recipients, message).await),
            Err(error) => Err(error),
        };
        let _ = tokio::time::timeout(QUIT_TIMEOUT, connection.quit()).await;
        result
    }

    /// Checks that the server would accept an email: connects, starts TLS and logs in as
    /// configured, names the sender, and disconnects.
    ///
    /// # Errors
    /// With the first command that failed.
    pub async fn check(&self) -> Result<(), Unavailable> {
        let deadline = Instant::now() + CHECK_TIMEOUT;
        let (mut connection, ready) = self.begin(deadline).await?;
        let _ = tokio::time::timeout(QUIT_TIMEOUT, connection.quit()).await;
        ready
    }

    /// Begins a session, up to the sender. Returns the connection, and whether the server accepted
    /// the sender.
    async fn begin(
        &self,
        deadline: Instant,
    ) -> Result<(AsyncSmtpConnection, Result<(), Unavailable>), Unavailable> {
        let mut connection = self.with_deadline(deadline, self.connect()).await?;
        let ready = self.with_deadline(deadline, self.send_sender(&mut connection)).await;
        Ok((connection, ready))
    }

    /// The server's host name. `None` for an address.
    #[must_use]
    pub fn host_name(&self) -> Option<&str> {
        self.server.host_name()
    }

    /// The server, with how the connection is secured.
    #[must_use]
    pub fn description(&self) -> String {
        self.server.description()
    }

    async fn with_deadline<T>(
        &self,
        deadline: Instant,
        step: impl Future<Output = Result<T, Unavailable>>,
    ) -> Result<T, Unavailable> {
        let done = tokio::time::timeout_at(deadline, step).await;
        done.unwrap_or_else(|_| Err(Unavailable(self.timed_out())))
    }

    fn timed_out(&self) -> String {
        format!("{} did not respond in time", self.server)
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Unavailable> {
        let client_id = self.hello.client_id();
        let (tls_on_connect, starttls) = match self.server.security {
            Security::None => (None, None),
            Security::StartTls => (None, self.tls.clone()),
            Security::Tls => (self.tls.clone(), None),
        };
        let address = (self.server.host.as_str(), self.server.port);
        let mut connection = AsyncSmtpConnection::connect_tokio1(
            address,
            Some(SESSION_TIMEOUT),
            &client_id,
            tls_on_connect,
            None,
        )
        .await
        .map_err(|error| self.unavailable("cannot be reached", &error))?;
        if let Some(tls) = starttls {
            let upgraded = connection.starttls(tls, &client_id).await;
            upgraded.map_err(|error| self.unavailable("failed to start TLS", &error))?;
        }
        if let Some(credentials) = &self.server.credentials {
            let login = connection.auth(&MECHANISMS, credentials).await;
            login.map_err(|error| self.unavailable("rejected the login", &error))?;
        }
        Ok(connection)
    }

    /// Sends MAIL FROM. The sender is the same for every email.
    async fn send_sender(&self, connection: &mut AsyncSmtpConnection) -> Result<(), Unavailable> {
        let from = Mail::new(Some(self.sender.0.email.clone()), vec![]);
        let reply = connection.command(from).await;
        reply.map(drop).map_err(|error| self.unavailable("rejected the sender", &error))
    }

    /// Sends the recipients and the email.
    async fn send_email(
        &self,
        deadline: Instant,
        connection: &mut AsyncSmtpConnection,
        recipients: &[Address],
        message: &[u8],
    ) -> SessionResult {
        let mut statuses = Vec::with_capacity(recipients.len());
        let session = self.run_session(connection, recipients, message, &mut statuses);
        let Aborted(reason) = match tokio::time::timeout_at(deadline, session).await {
            Ok(Ok(())) => return SessionResult { statuses, session_aborted: false },
            Ok(Err(aborted)) => aborted,
            Err(_) => Aborted(self.timed_out()),
        };
        let deferred_unless_final = |status| match status {
            Some(RecipientStatus::Accepted) | None => RecipientStatus::Deferred(reason.clone()),
            Some(status) => status,
        };
        let mut replies = statuses.into_iter();
        let statuses = recipients.iter().map(|_| deferred_unless_final(replies.next())).collect();
        SessionResult { statuses, session_aborted: true }
    }

    async fn run_session(
        &self,
        connection: &mut AsyncSmtpConnection,
        recipients: &[Address],
        message: &[u8],
        statuses: &mut Vec<RecipientStatus>,
    ) -> Result<(), Aborted> {
        for recipient in recipients {
            let reply = connection.command(Rcpt::new(recipient.clone(), vec![])).await;
            statuses.push(self.recipient_status(reply.err())?);
        }
        if statuses.contains(&RecipientStatus::Accepted) {
            let overall = self.recipient_status(send_data(connection, message).await.err())?;
            for status in statuses.iter_mut().filter(|status| **status == RecipientStatus::Accepted)
            {
                *status = overall.clone();
            }
        }
        Ok(())
    }

    /// Interprets a reply to a recipient or to the email itself.
    fn recipient_status(&self, error: Option<Error>) -> Result<RecipientStatus, Aborted> {
        let Some(error) = error else {
            return Ok(RecipientStatus::Accepted);
        };
        match error.status().map(u16::from) {
            // A login is required, perhaps only for some recipients. The operator can fix that.
            Some(530) => Ok(RecipientStatus::Deferred(with_causes(&error))),
            None | Some(421) => Err(Aborted(format!(
                "{} closed the connection: {}",
                self.server,
                with_causes(&error)
            ))),
            Some(code) if code >= 500 => Ok(RecipientStatus::Refused(with_causes(&error))),
            Some(_) => Ok(RecipientStatus::Deferred(with_causes(&error))),
        }
    }

    fn unavailable(&self, what: &str, error: &Error) -> Unavailable {
        Unavailable(format!("{} {what}: {}", self.server, with_causes(error)))
    }
}

async fn send_data(connection: &mut AsyncSmtpConnection, message: &[u8]) -> Result<(), Error> {
    connection.command(Data).await?;
    connection.message(message).await?;
    Ok(())
}

/// Formats an error with its causes, which lettre's own message often leaves out.
fn with_causes(error: &Error) -> String {
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

#[cfg(test)]
mod tests;
