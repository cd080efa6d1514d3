//! Errors for other processes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Hash};

/// The serializable form of an [`Error`], the payload of `Abort` events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorInfo {
    /// [`Error::code`].
    pub code: String,
    /// The message, with those of its sources.
    pub message: String,
    /// [`Error::hash`].
    pub hash: Option<Hash>,
    /// [`Error::path`]; what is no UTF-8 in it is replaced.
    pub path: Option<String>,
}

impl From<&Error> for ErrorInfo {
    fn from(error: &Error) -> Self {
        let mut message = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(e) = source {
            message = if message.is_empty() { e.to_string() } else { format!("{message}: {e}") };
            source = e.source();
        }
        Self {
            code: error.code().to_owned(),
            message,
            hash: error.hash(),
            path: error.path().map(|p| p.to_string_lossy().into_owned()),
        }
    }
}

impl fmt::Display for ErrorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ErrorInfo {}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_serializable_form_carries_the_chain() {
        let error = Error::io("read", "/x", io::Error::other("broken"));
        let info = ErrorInfo::from(&error);
        assert_eq!((info.code.as_str(), info.message.as_str()), ("io", "read /x: broken"));
        assert_eq!(info.path.as_deref(), Some("/x"));
    }
}
