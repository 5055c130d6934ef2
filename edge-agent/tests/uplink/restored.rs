//! A store that is an older copy of the one the control plane knows.

use std::time::Duration;

use edge_agent::uplink::Heard;
use sync_protocol::wire::StreamMark;

use crate::gateway::{EPOCH, Gateway, STREAM, receipt};
use crate::peer::Peer;

const KEEP_ALIVE: Duration = Duration::from_secs(20);

#[test]
fn what_the_control_plane_has_of_this_run_is_a_receipt() {
    let peer = Peer::new();
    let gateway = Gateway::start(&peer, KEEP_ALIVE, 5, 10);
    let mark = StreamMark { stream: STREAM, seq: 3, epoch: EPOCH };
    let (mut link, _) = peer.welcome(&[mark]);
    gateway.wait_receipt(3);
    let seqs: Vec<_> = link.records().records.iter().map(|record| record.seq).collect();
    assert_eq!(seqs, [4, 5], "only what is missing there");
    gateway.uplink.stop();
}

#[test]
fn what_it_has_of_another_run_is_none_and_the_stream_goes_on_after_it() {
    let peer = Peer::new();
    let gateway = Gateway::start(&peer, KEEP_ALIVE, 5, 10);
    let mark = StreamMark { stream: STREAM, seq: 8, epoch: EPOCH + 1 };
    let (mut link, hello) = peer.welcome(&[mark]);
    assert_eq!(hello.streams[0].last, 5);
    gateway.wait("the core to be told", |heard| match heard {
        Heard::GoOnAfter { stream, seq } => {
            assert_eq!((stream, seq), (STREAM, 8));
            Some(())
        }
        Heard::Receipt { .. } => panic!("nothing of this run is stored there"),
        _ => None,
    });
    let seqs: Vec<_> = link.records().records.iter().map(|record| record.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5], "all is sent, for the control plane to judge");
    link.say(&receipt(8));
    gateway.wait_receipt(5);
    gateway.uplink.stop();
}
