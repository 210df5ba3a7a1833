//! List, reflection, health, and errors that fit into headers.

use segue_control_plane_core::config;
use segue_proto::admin::v1::{ListRequest, ListSidecarsRequest};
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic::metadata::MetadataValue;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::support::{chat, empty, faults, file, service};

#[tokio::test]
async fn pages_are_of_one_revision() {
    let (mut plane, _directory) = empty().await;
    let batch: Vec<String> = (0..5).map(|n| service(&format!("s{n}"))).collect();
    plane.apply(&batch.join("---\n")).await.unwrap();
    let mut request = ListRequest { page_size: 2, ..ListRequest::default() };
    let mut names = Vec::new();
    let mut pages = 0;
    loop {
        let page = plane.config.list(request.clone()).await.unwrap().into_inner();
        assert_eq!(page.revision, 1);
        names.extend(
            page.resources.iter().map(|entry| config::key(entry.resource.as_ref().unwrap()).name),
        );
        pages += 1;
        // A resource that comes in between does not show up on a later page.
        plane.apply(&service(&format!("s9{pages}"))).await.unwrap();
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!((pages, names), (3, (0..5).map(|n| format!("s{n}")).collect()));
}

#[tokio::test]
async fn a_listing_is_filtered_and_may_be_of_an_earlier_revision() {
    let (mut plane, _directory) = empty().await;
    plane.apply(&chat(5)).await.unwrap();
    plane.apply(&chat(50)).await.unwrap();
    let routes = ListRequest { kind: "routes".to_owned(), ..ListRequest::default() };
    let now = plane.config.list(routes.clone()).await.unwrap().into_inner();
    assert_eq!((now.resources.len(), now.resources[0].revision), (1, 2));
    assert!(now.resources[0].yaml.contains("weight: 50\n"));
    let then = ListRequest { revision: 1, ..routes.clone() };
    let then = plane.config.list(then).await.unwrap().into_inner();
    assert_eq!((then.revision, then.resources[0].revision), (1, 1));
    assert!(then.resources[0].yaml.contains("weight: 5\n"));
    let elsewhere = ListRequest { namespace: "shop".to_owned(), ..routes };
    assert!(plane.config.list(elsewhere).await.unwrap().into_inner().resources.is_empty());
    let future = ListRequest { revision: 9, ..ListRequest::default() };
    assert_eq!(plane.config.list(future).await.unwrap_err().code(), Code::NotFound);
    let token = ListRequest { page_token: "x".to_owned(), ..ListRequest::default() };
    assert_eq!(plane.config.list(token).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let (plane, _directory) = empty().await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(plane.channel);
    let answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    let answer = answers.into_inner().next().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    for name in
        ["segue.admin.v1.ConfigService", "segue.admin.v1.StatusService", "grpc.health.v1.Health"]
    {
        assert!(names.iter().any(|found| found == name), "{names:?}");
    }
}

#[tokio::test]
async fn health_is_served() {
    let (plane, _directory) = empty().await;
    let mut client = HealthClient::new(plane.channel);
    for service in ["", "segue.admin.v1.ConfigService", "segue.admin.v1.StatusService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let status = client.check(request).await.unwrap().into_inner().status;
        assert_eq!(status, tonic_health::pb::health_check_response::ServingStatus::Serving as i32);
    }
}

#[tokio::test]
async fn hundreds_of_faults_reach_a_plain_client_in_part_and_a_willing_one_whole() {
    let (mut plane, _directory) = empty().await;
    let bad: Vec<String> =
        (0..300).map(|n| service(&format!("s{n}")).replace("9001", "99999")).collect();
    let request = file("many.yaml", &bad.join("---\n"));
    let status = plane.config.apply(request.clone()).await.unwrap_err();
    let some = faults(&status).faults.len();
    assert!((1..300).contains(&some), "{some}");
    assert!(status.message().contains("more"), "{}", status.message());
    assert!(status.message().len() + status.details().len() * 4 / 3 < 8 * 1024);

    // 300 faults exceed the 16 KiB of headers that a plain client takes.
    let channel =
        tonic::transport::Channel::from_shared(format!("http://{}", plane.running.admin_address))
            .unwrap()
            .http2_max_header_list_size(1024 * 1024)
            .connect()
            .await
            .unwrap();
    let mut willing =
        segue_proto::admin::v1::config_service_client::ConfigServiceClient::new(channel);
    let mut request = tonic::Request::new(request);
    request.metadata_mut().insert("segue-detail-bytes", MetadataValue::from(512 * 1024));
    let status = willing.apply(request).await.unwrap_err();
    assert!(faults(&status).faults.len() >= 300, "{}", faults(&status).faults.len());
}

#[tokio::test]
async fn a_fleet_of_none_is_an_empty_list() {
    let (mut plane, _directory) = empty().await;
    let response = plane.status.list_sidecars(ListSidecarsRequest::default()).await.unwrap();
    assert!(response.into_inner().sidecars.is_empty());
    let wrong = ListSidecarsRequest { service: "Not/A_Name".to_owned(), ..Default::default() };
    let status = plane.status.list_sidecars(wrong).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}
