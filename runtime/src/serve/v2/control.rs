//! Who may load and unload models by a request, and how that is done.

use std::sync::Arc;

use infer_core::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};

use crate::serve::State;
use crate::serve::access::RequestId;
use crate::serve::config::ModelControl;

/// What is done to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Load,
    Unload,
}

/// Why a change is not allowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// To nobody.
    Off,
    /// To nobody who does not carry the token.
    NoToken,
    /// The token is another.
    WrongToken,
}

impl Denied {
    pub(crate) fn error(&self) -> Error {
        let (message, hint) = match self {
            Denied::Off => (
                "models are not loaded or unloaded by requests here",
                "the server allows it with --allow-model-control",
            ),
            Denied::NoToken => (
                "expected the header `authorization: Bearer TOKEN`",
                "the token is what the server was given with --admin-token",
            ),
            Denied::WrongToken => (
                "the token is not that of the server",
                "the token is what the server was given with --admin-token",
            ),
        };
        Error::new(ErrorKind::Security, message).with_hint(hint)
    }
}

/// Whether a request with this `authorization` may change models.
pub(crate) fn check(
    control: &ModelControl,
    authorization: Option<&str>,
) -> std::result::Result<(), Denied> {
    let expected = match control {
        ModelControl::Off => return Err(Denied::Off),
        ModelControl::On(None) => return Ok(()),
        ModelControl::On(Some(token)) => token,
    };
    let given = authorization.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let given = given.ok_or(Denied::NoToken)?;
    // Digests are compared, so that how long it takes says nothing of the token.
    match Sha256::digest(given) == Sha256::digest(expected) {
        true => Ok(()),
        false => Err(Denied::WrongToken),
    }
}

/// The one parameter that means the same with and without: no model depends on another.
const UNLOAD_DEPENDENTS: &str = "unload_dependents";

/// Fails for parameters that would change what is loaded: that is the operator's to say.
///
/// # Errors
/// `UnsupportedOperation`, with the first such parameter.
pub(crate) fn check_parameters<'a>(mut names: impl Iterator<Item = &'a str>) -> Result<()> {
    names
        .find(|name| *name != UNLOAD_DEPENDENTS)
        .map_or(Ok(()), |name| {
            let name = infer_core::clip(name);
            let message =
                format!("models are loaded as the server was told, not by the parameter `{name}`");
            Err(Error::new(ErrorKind::UnsupportedOperation, message))
        })
}

/// Changes a model, on a thread that may block.
///
/// # Errors
/// `NotFound` for a model that there is not, `Busy` where too many wait, `RuntimeError` for one that cannot be loaded: what
/// is wrong with its files is no fault of the request.
pub(crate) async fn change(state: &Arc<State>, model: String, change: Change) -> Result<()> {
    tracing::info!(
        request_id = RequestId::current().as_str(),
        "model `{}`: {change:?} by a request",
        infer_core::clip(&model)
    );
    state.repository.entry(&model)?;
    let (state, turn) = (state.clone(), state.changes.enter().await?);
    let work = move || {
        let _turn = turn;
        match change {
            Change::Load => state.repository.load(&model).map_err(|error| {
                let message = format!("the model `{model}` cannot be loaded: {}", error.report());
                Error::new(ErrorKind::RuntimeError, message)
            }),
            Change::Unload => state.repository.unload(&model),
        }
    };
    let changed = tokio::task::spawn_blocking(work).await;
    changed.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::RuntimeError, "the change failed").with_source(error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_carries_the_token_may() {
        let token = ModelControl::On(Some("secret".to_owned()));
        assert_eq!(
            check(&ModelControl::Off, Some("Bearer secret")),
            Err(Denied::Off)
        );
        assert_eq!(check(&ModelControl::On(None), None), Ok(()));
        assert_eq!(check(&token, None), Err(Denied::NoToken));
        assert_eq!(check(&token, Some("Basic secret")), Err(Denied::NoToken));
        assert_eq!(check(&token, Some("Bearer")), Err(Denied::NoToken));
        assert_eq!(check(&token, Some("Bearer secre")), Err(Denied::WrongToken));
        assert_eq!(check(&token, Some("bearer secret")), Ok(()));
        assert!(!format!("{token:?}").contains("secret"));
    }

    #[test]
    fn parameters_that_are_not_met_are_refused() {
        assert!(check_parameters(["unload_dependents"].into_iter()).is_ok());
        let error = check_parameters(["unload_dependents", "config"].into_iter());
        let error = error.expect_err("it would load another model");
        assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
        assert!(error.to_string().contains("`config`"), "{error}");
    }
}
