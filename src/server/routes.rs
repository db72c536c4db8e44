//! What answers on the gRPC port: the services, gRPC-Web for browsers, and pages.

use std::sync::Arc;

use axum::Router;
use http::{HeaderName, HeaderValue, Method};
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_web::GrpcWebLayer;
use tower_http::cors::{AllowHeaders, CorsLayer};

use super::{
    config::Config,
    page::{self, Shown},
};
use crate::{
    layers::{AuthenticateLayer, Authenticator, RequestContextLayer, RpcMetricsLayer},
    proto::DESCRIPTORS,
    rpc::{Context, Services},
};

const EXPOSED: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];

#[derive(Debug, thiserror::Error)]
#[error("reflection cannot be served: {0}")]
pub struct ReflectionError(#[from] tonic_reflection::server::Error);

/// gRPC-Web sits on the gRPC routes only: on all of them it would answer 400 to the pages.
pub(super) fn router(
    context: Context,
    authenticator: Arc<Authenticator>,
    health: HealthServer<impl Health>,
    config: &Config,
) -> Result<Router, ReflectionError> {
    let pages = page::router(Shown {
        hub: Arc::clone(&context.hub),
        warnings: config.warnings().into(),
    });
    let services = Services::new(context);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let grpc = Routes::new(services.feed_service())
        .add_service(services.catalog_service())
        .add_service(health)
        .add_service(reflection)
        .prepare()
        .into_axum_router()
        .layer(AuthenticateLayer::new(authenticator))
        .layer(RpcMetricsLayer)
        .layer(RequestContextLayer)
        .layer(GrpcWebLayer::new())
        .reset_fallback();
    Ok(grpc.merge(pages).layer(cors(&config.cors_origins)))
}

/// Pages of the same origin need nothing; others only when they are listed.
fn cors(origins: &[String]) -> CorsLayer {
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|o| o.parse().ok()).collect();
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::POST, Method::GET])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED.map(HeaderName::from_static))
}
