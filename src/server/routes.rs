//! What answers calls: the services, gRPC-Web for browsers, and JSON for whoever has no protobuf.

use axum::Router;
use http::{HeaderName, HeaderValue, Method};
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_web::GrpcWebLayer;
use tower_http::cors::{AllowHeaders, CorsLayer};

use super::{around::Around, config::Config, json};
use crate::{
    proto::DESCRIPTORS,
    rpc::{Context, Services},
};

const EXPOSED: [&str; 7] = [
    "grpc-status",
    "grpc-message",
    "grpc-status-details-bin",
    "x-request-id",
    "x-feature-flags",
    "x-feature-flags-ignored",
    "traceresponse",
];

#[derive(Debug, thiserror::Error)]
#[error("reflection cannot be served: {0}")]
pub struct ReflectionError(#[from] tonic_reflection::server::Error);

/// Without anything `around`, calls are bare. gRPC-Web sits on these routes only: on all of the
/// port it would answer 400 to the pages.
pub(super) fn router(
    context: Context,
    around: Option<Around>,
    health: HealthServer<impl Health>,
    config: &Config,
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
        .into_axum_router();
    let grpc = match around {
        Some(around) => around.wrap(grpc),
        None => grpc,
    };
    let json = json::router(grpc.clone());
    let grpc = grpc.layer(GrpcWebLayer::new()).reset_fallback();
    Ok(grpc.merge(json).layer(cors(&config.cors_origins)))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::layers::{Kind, RPCS};

    /// Path, name and shape of each method of a set of files.
    fn methods(descriptors: &[u8]) -> Vec<(String, String, Kind)> {
        let files = FileDescriptorSet::decode(descriptors).unwrap().file;
        let of_file = |file: &prost_types::FileDescriptorProto| {
            let package = file.package().to_owned();
            let services = file.service.clone().into_iter();
            let of_service = move |service: prost_types::ServiceDescriptorProto| {
                let service_name = format!("{package}.{}", service.name());
                let methods = service.method.into_iter();
                methods.map(move |method| {
                    let kind = match (method.client_streaming(), method.server_streaming()) {
                        (false, false) => Kind::Unary,
                        (true, false) => Kind::ClientStreaming,
                        (false, true) => Kind::ServerStreaming,
                        (true, true) => Kind::Bidi,
                    };
                    let path = format!("/{service_name}/{}", method.name());
                    (path, method.name().to_owned(), kind)
                })
            };
            services.flat_map(of_service).collect::<Vec<_>>()
        };
        files.iter().flat_map(of_file).collect()
    }

    /// By what metrics and logs know a method: those of other services say whose they are.
    fn known_as(method: &str) -> String {
        match method {
            "Check" | "Watch" => format!("Health{method}"),
            "ServerReflectionInfo" => "Reflection".to_owned(),
            own => own.to_owned(),
        }
    }

    #[test]
    fn the_table_of_calls_lists_each_method_as_it_is_and_no_other() {
        let served = [
            DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        ];
        let served = served.into_iter().flat_map(methods);
        let served = served.map(|(path, method, kind)| (path, known_as(&method), kind));
        let listed = RPCS
            .iter()
            .map(|r| (r.path.to_owned(), r.name.to_owned(), r.kind));
        let text = |(path, name, kind)| format!("{path} {name} {kind:?}");
        let (served, listed): (BTreeSet<_>, BTreeSet<_>) =
            (served.map(text).collect(), listed.map(text).collect());
        assert_eq!(listed, served);
        assert_eq!(listed.len(), RPCS.len(), "an entry is there twice");
    }
}
