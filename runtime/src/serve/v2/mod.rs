//! The Open Inference Protocol (KServe v2), by REST and by gRPC.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;

use crate::serve::State;

/// What is answered by REST.
pub(crate) fn router(state: Arc<State>) -> Router {
    health(state)
}

/// Whether the server lives, and whether it is ready.
pub(crate) fn health(state: Arc<State>) -> Router {
    let ready = move || {
        let ready = state.is_ready();
        async move {
            match ready {
                true => StatusCode::OK,
                false => StatusCode::SERVICE_UNAVAILABLE,
            }
        }
    };
    Router::new()
        .route("/v2/health/live", get(|| async { StatusCode::OK }))
        .route("/v2/health/ready", get(ready))
}

/// What is answered by gRPC.
pub(crate) fn grpc_router(state: Arc<State>) -> Router {
    health(state)
}
