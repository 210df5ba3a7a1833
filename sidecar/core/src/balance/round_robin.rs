//! Weighted round robin. The caller keeps the cursor and counts it up by one a pick.

use std::net::SocketAddr;

use crate::snapshot::Endpoint;

/// The endpoint of a turn. Over as many turns as the sum of the weights each endpoint is picked
/// exactly by its weight; equal weights alternate. `None` where there is no endpoint.
pub fn pick(endpoints: &[Endpoint], cursor: u64) -> Option<&Endpoint> {
    let first = endpoints.first()?;
    if endpoints.iter().all(|endpoint| endpoint.weight == first.weight) {
        return endpoints.get((cursor % endpoints.len() as u64) as usize);
    }
    let sum: u64 = endpoints.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
    // A stride that shares no divisor with the sum visits all turns, and mixes the heavy ones.
    let turn =
        (u128::from(cursor % sum.max(1)) * u128::from(stride(sum)) % u128::from(sum.max(1))) as u64;
    let mut end = 0;
    endpoints.iter().find(|endpoint| {
        end += u64::from(endpoint.weight);
        turn < end
    })
}

/// As [`pick`], but an endpoint other than `not` where there is one: a retry goes elsewhere.
pub fn pick_other(endpoints: &[Endpoint], cursor: u64, not: SocketAddr) -> Option<&Endpoint> {
    let picked = pick(endpoints, cursor)?;
    if picked.address != not {
        return Some(picked);
    }
    let others = endpoints.iter().filter(|endpoint| endpoint.address != not);
    let count = others.clone().count() as u64;
    if count == 0 {
        return Some(picked);
    }
    others.clone().nth((cursor % count) as usize)
}

/// Near the golden section of the sum and without a common divisor with it.
fn stride(sum: u64) -> u64 {
    let mut stride = ((sum as f64 * 0.618_033_988_75) as u64).max(1);
    while gcd(stride, sum) != 1 {
        stride += 1;
    }
    stride
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoints(weights: &[u32]) -> Vec<Endpoint> {
        let endpoint = |(i, &weight): (usize, &u32)| Endpoint {
            address: SocketAddr::from(([127, 0, 0, 1], 9000 + i as u16)),
            weight,
        };
        weights.iter().enumerate().map(endpoint).collect()
    }

    #[test]
    fn equal_endpoints_take_turns() {
        let endpoints = endpoints(&[1, 1, 1]);
        let ports: Vec<u16> =
            (0..6).map(|cursor| pick(&endpoints, cursor).unwrap().address.port()).collect();
        assert_eq!(ports, [9000, 9001, 9002, 9000, 9001, 9002]);
        assert_eq!(pick(&[], 3), None);
    }

    #[test]
    fn a_retry_goes_elsewhere_where_it_can() {
        let two = endpoints(&[1, 1]);
        for cursor in 0..4 {
            assert_eq!(pick_other(&two, cursor, two[0].address), Some(&two[1]));
        }
        let one = endpoints(&[1]);
        assert_eq!(pick_other(&one, 0, one[0].address), Some(&one[0]));
    }

    proptest! {
        #[test]
        fn each_round_is_exact(weights in prop::collection::vec(1u32..20, 1..8), round in 0u64..1000) {
            let endpoints = endpoints(&weights);
            let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            let equal = weights.iter().all(|weight| *weight == weights[0]);
            let turns = if equal { weights.len() as u64 } else { sum };
            let mut counts = vec![0u32; weights.len()];
            for cursor in round * turns..(round + 1) * turns {
                let picked = pick(&endpoints, cursor).unwrap();
                counts[usize::from(picked.address.port() - 9000)] += 1;
            }
            let expected = if equal { vec![1; weights.len()] } else { weights };
            prop_assert_eq!(counts, expected);
        }
    }
}
