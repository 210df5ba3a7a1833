//! `envoy.service.discovery.v3.AggregatedDiscoveryService` as a service of tonic's router.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use prost::Message;
use segue_control_plane_core::xds::{Delta, StateOfTheWorld, Variant};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower_service::Service;

use super::frames::{Requests, Responses};
use super::stream::{Ads, responses};
use crate::access::Ticket;
use crate::identity::Membership;

const NAME: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";

/// The aggregated discovery service.
#[derive(Clone, Debug)]
pub struct AdsService {
    ads: Ads,
}

impl AdsService {
    pub(super) fn new(ads: Ads) -> Self {
        Self { ads }
    }

    /// The same, which gives secrets as well.
    pub(super) fn issuing(self, membership: Option<Membership>) -> Self {
        Self { ads: Ads { membership: membership.map(Arc::new), ..self.ads } }
    }

    fn answer(&self, request: Request<Body>) -> Response<Body> {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        let opened = match method {
            "DeltaAggregatedResources" => self.open::<Delta>(request),
            "StreamAggregatedResources" => self.open::<StateOfTheWorld>(request),
            _ => Err(Status::unimplemented(format!("{NAME} has no such method"))),
        };
        opened.unwrap_or_else(Status::into_http)
    }

    fn open<V>(&self, request: Request<Body>) -> Result<Response<Body>, Status>
    where
        V: Variant + Send + 'static,
        V::Request: Message + Default + 'static,
    {
        let is_grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
        if !request.headers().get(CONTENT_TYPE).is_some_and(is_grpc) {
            return Err(Status::invalid_argument("the content type must be application/grpc"));
        }
        let request = tonic::Request::from_http(request);
        let peer: Option<SocketAddr> = request.remote_addr();
        let place = self.ads.open.enter(peer, Ticket::of(request.extensions()))?;
        let requests = Requests::new(request.into_inner(), place.inbox());
        let chunks = responses::<V>(self.ads.clone(), place, requests);
        let mut response = Response::new(Body::new(Responses::new(chunks, peer)));
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(CONTENT_TYPE, grpc);
        Ok(response)
    }
}

impl NamedService for AdsService {
    const NAME: &'static str = NAME;
}

impl Service<Request<Body>> for AdsService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        ready(Ok(self.answer(request)))
    }
}
