//! Exit codes: what a script can tell from the end of a command. Documented in `docs/cli.md`.

use std::fmt;
use std::process::ExitCode;

use cairn_core::error::{ClientError, MasterError};

/// How a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Failed, or a check found something.
    Failed = 1,
    /// Wrong usage, configuration, directory, port, path or name.
    Usage = 2,
    /// Refused as things stand: exists already, not empty, permission.
    Refused = 3,
    /// The cluster can't be reached, or it is not safe to write now. The fate of a change may be unknown.
    Unavailable = 4,
    /// Stored bytes can't be read.
    Data = 5,
    /// Ended by SIGINT, as a shell counts it.
    Interrupted = 130,
    /// Ended by SIGTERM, as a shell counts it.
    Terminated = 143,
}

/// An error with its exit code.
#[derive(Debug)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// One sentence that says what to do.
    pub message: String,
}

impl Failure {
    /// A failure with an exit code of its own.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into() }
    }

    /// Wrong usage.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The exit code of a client error.
pub fn code_of(error: &ClientError) -> Exit {
    match error {
        ClientError::Master(master) => match master {
            MasterError::NotFound(_)
            | MasterError::NotADirectory(_)
            | MasterError::IsADirectory(_)
            | MasterError::InvalidPath { .. }
            | MasterError::InvalidArgument(_) => Exit::Usage,
            MasterError::AlreadyExists(_)
            | MasterError::NotEmpty(_)
            | MasterError::PermissionDenied { .. } => Exit::Refused,
            MasterError::NotEnoughServers { .. }
            | MasterError::QuorumLost { .. }
            | MasterError::Unavailable(_)
            | MasterError::Busy(_)
            | MasterError::UploadGone(_) => Exit::Unavailable,
            MasterError::ChunkNotOpen(_) | MasterError::Protocol(_) => Exit::Failed,
        },
        ClientError::Unreadable { .. } | ClientError::NoReplica(_) => Exit::Data,
        ClientError::Timeout(_) | ClientError::WriteRefused(_) => Exit::Unavailable,
        ClientError::Stale(_) | ClientError::BadHandle | ClientError::Closed => Exit::Failed,
    }
}

/// The error of a command that has an `-f` to replace what is there, when that was not given.
pub fn unless_forced(force: bool, error: ClientError) -> anyhow::Error {
    match error {
        ClientError::Master(MasterError::AlreadyExists(path)) if !force => {
            Failure::new(Exit::Refused, format!("{path}: already exists (use -f to replace a file)")).into()
        }
        other => other.into(),
    }
}

/// Prints an error to stderr and turns it into the process's exit code.
#[expect(clippy::print_stderr, reason = "the one place where programs report their end")]
pub fn finish(program: &str, result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    if is_broken_pipe(&error) {
        return ExitCode::SUCCESS;
    }
    eprintln!("{program}: {error:#}");
    ExitCode::from(exit_of(&error) as u8)
}

/// Whether a reader of this program's output went away, which is no failure.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// The exit code of any error.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.exit;
        }
        if let Some(client) = cause.downcast_ref::<ClientError>() {
            return code_of(client);
        }
    }
    Exit::Failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_code_under_context() {
        let error =
            anyhow::Error::from(ClientError::NoReplica(cairn_core::id::ChunkId(7))).context("reading /a");
        assert_eq!(exit_of(&error), Exit::Data);
        let error = anyhow::Error::from(Failure::usage("no such configuration")).context("starting");
        assert_eq!(exit_of(&error), Exit::Usage);
        assert_eq!(exit_of(&anyhow::anyhow!("anything else")), Exit::Failed);
    }
}
