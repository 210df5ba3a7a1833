//! Faults as the details of a gRPC status: the form of `grpc-status-details-bin`, which is a
//! `google.rpc.Status`.

use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::rpc::Status;
use prost::Message as _;
use segue_proto::admin::v1::{Fault, Faults};

const TYPE_URL: &str = "type.googleapis.com/segue.admin.v1.Faults";

/// The details of a status with this code and message.
pub fn encode(code: i32, message: String, faults: Vec<Fault>) -> Vec<u8> {
    let value = Faults { faults }.encode_to_vec();
    let details = vec![Any { type_url: TYPE_URL.to_owned(), value }];
    Status { code, message, details }.encode_to_vec()
}

/// The faults that the details of a status hold; none where they hold something else.
pub fn decode(details: &[u8]) -> Vec<Fault> {
    let details = Status::decode(details).unwrap_or_default().details;
    let faults = details.iter().find(|any| any.type_url == TYPE_URL);
    let faults = faults.and_then(|any| Faults::decode(any.value.as_slice()).ok());
    faults.unwrap_or_default().faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_out_as_they_went_in() {
        let fault = Fault { message: "no such field".to_owned(), line: 3, ..Fault::default() };
        let details = encode(3, "one fault".to_owned(), vec![fault.clone()]);
        assert_eq!(decode(&details), [fault]);
        for other in [&b""[..], b"\xff\xff", &details[..details.len() - 1]] {
            assert_eq!(decode(other), []);
        }
    }
}
