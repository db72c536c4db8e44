//! What answers calls: the services, and gRPC-Web for browsers.

use axum::Router;
use http::{HeaderName, HeaderValue, Method};
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_web::GrpcWebLayer;
use tower_http::cors::{AllowHeaders, CorsLayer};

use crate::{
    layers::{RequestContextLayer, RpcMetricsLayer},
    proto::DESCRIPTORS,
    rpc::{Context, Services},
};

const EXPOSED: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];

#[derive(Debug, thiserror::Error)]
#[error("reflection cannot be served: {0}")]
pub struct ReflectionError(#[from] tonic_reflection::server::Error);

/// gRPC-Web sits on these routes only: on all of the port it would answer 400 to the pages.
pub(super) fn router(
    context: Context,
    health: HealthServer<impl Health>,
    cors_origins: &[String],
) -> Result<Router, ReflectionError> {
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
        .layer(RpcMetricsLayer)
        .layer(RequestContextLayer)
        .layer(GrpcWebLayer::new())
        .reset_fallback();
    Ok(grpc.layer(cors(cors_origins)))
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
