use std::convert::Infallible;
use std::pin::Pin;

use bytes::{BufMut, BytesMut};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse,
};
use futures_util::StreamExt;
use http_body::Frame;
use http_body_util::StreamBody;
use segue_control_plane_core::compile::ResolvedEndpoints;
use segue_control_plane_core::config::MeshConfig;
use segue_control_plane_core::xds::{Delta, StateOfTheWorld};
use segue_shared::xds_names::type_urls::{CLUSTER, SNAPSHOT_MARK};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;

use super::*;
use crate::access::Ticket;

fn ads() -> Ads {
    let (metrics, settings) = (StreamMetrics::default(), Settings::default());
    let open = OpenStreams::alone(&settings, &metrics);
    let (cache, fleet, settings) = (SnapshotCache::default(), Fleet::new(), Arc::new(settings));
    Ads { cache, fleet, open, metrics, settings, membership: None }
}

/// There are ten thousand of them.
#[tokio::test]
async fn a_stream_is_small() {
    let ads = ads();
    let place = || ads.open.enter(None, Ticket::default()).unwrap();
    let (one, other) = (place(), place());
    let requests = Requests::new(Body::empty(), one.inbox());
    let delta = responses::<Delta>(ads.clone(), one, requests);
    let requests = Requests::new(Body::empty(), other.inbox());
    let sotw = responses::<StateOfTheWorld>(ads.clone(), other, requests);
    let boxed = size_of::<Conversation<Delta>>();
    for bytes in [size_of_val(&delta), size_of_val(&sotw)] {
        assert!(bytes + boxed <= 4608, "{bytes} + {boxed} bytes");
    }
}

/// A sidecar, whose time is the test's.
struct Client {
    requests: mpsc::Sender<Result<Frame<Bytes>, Infallible>>,
    responses: Pin<Box<dyn Stream<Item = Result<Bytes, Status>>>>,
}

impl Client {
    fn connect(ads: &Ads) -> Self {
        let (requests, receiver) = mpsc::channel(4);
        let body = Body::new(StreamBody::new(ReceiverStream::new(receiver)));
        let place = ads.open.enter(None, Ticket::default()).unwrap();
        let read = Requests::new(body, place.inbox());
        Self { requests, responses: Box::pin(responses::<Delta>(ads.clone(), place, read)) }
    }

    async fn ask(&self, type_url: &str, nonce: &str) {
        let node = Node {
            id: "a".to_owned(),
            user_agent_name: "segue-sidecar".to_owned(),
            ..Node::default()
        };
        let wants = nonce.is_empty().then(|| "*".to_owned());
        let request = DeltaDiscoveryRequest {
            node: Some(node),
            type_url: type_url.to_owned(),
            response_nonce: nonce.to_owned(),
            resource_names_subscribe: wants.into_iter().collect(),
            ..DeltaDiscoveryRequest::default()
        };
        let message = request.encode_to_vec();
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.len()).unwrap());
        frame.put_slice(&message);
        self.requests.send(Ok(Frame::data(frame.freeze()))).await.unwrap();
    }

    /// The next response within a time.
    async fn within(&mut self, most: Duration) -> Option<DeltaDiscoveryResponse> {
        let chunk = timeout(most, self.responses.next()).await.ok()?.unwrap().unwrap();
        Some(DeltaDiscoveryResponse::decode(&chunk[5..]).unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn what_begins_to_be_waited_for_after_a_quiet_time_is_waited_for_as_long() {
    let ads = ads();
    let mesh = MeshConfig { revision: Revision(1), ..MeshConfig::default() };
    ads.cache.publish(Arc::new(mesh), Arc::new(ResolvedEndpoints::default()));
    let mut client = Client::connect(&ads);
    client.ask(CLUSTER, "").await;
    let clusters = client.within(Duration::from_secs(1)).await.unwrap();
    client.ask(CLUSTER, &clusters.nonce).await;
    assert!(client.within(Duration::from_mins(1)).await.is_none(), "nothing is owed");
    // The end of a snapshot waits for a client that has still to ask for its routes.
    client.ask(SNAPSHOT_MARK, "").await;
    assert!(client.within(ANSWER.mul_f64(0.98)).await.is_none());
    let mark = client.within(Duration::from_millis(200)).await.unwrap();
    assert_eq!(mark.type_url, SNAPSHOT_MARK);
}

/// One that has nothing to serve does not hold a client that may go to another.
#[tokio::test(start_paused = true)]
async fn a_client_is_sent_on_where_nothing_is_published() {
    let ads = ads();
    let metrics = ads.metrics.clone();
    let begun = Instant::now();
    let mut client = Client::connect(&ads);
    client.ask(CLUSTER, "").await;
    let refused = client.responses.next().await.unwrap().unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    assert_eq!(begun.elapsed().as_secs(), FIRST_PUBLICATION.as_secs());
    assert_eq!(metrics.refusals("unpublished"), 1);
}
