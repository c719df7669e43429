//! An error with its chain of sources, in one line.

use std::{error::Error, fmt};

/// An error whose `Display` also prints its sources, separated by ": ".
#[derive(Debug, Clone, Copy)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn display_includes_all_sources() {
        #[derive(Debug, thiserror::Error)]
        #[error("no connection")]
        struct Outer(#[source] io::Error);
        let error = Outer(io::Error::other("refused"));
        assert_eq!(ErrorChain(&error).to_string(), "no connection: refused");
    }
}
