//! All bounds of the broker, in one place. What happens at each stands beside it.

/// Bounds of a [`Broker`](super::Broker).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections, established or not; more are closed at once.
    pub connections_max: usize,
    /// Sessions that outlive their connection; a new one is refused with quota exceeded.
    pub sessions_max: usize,
    /// Sessions of one identity that outlive their connection; a new one is refused with quota
    /// exceeded, so that nobody can take all places.
    pub sessions_per_identity_max: usize,
    /// Longest session expiry in seconds; a longer wish is cut and the client told. 0 makes every
    /// session end with its connection.
    pub session_expiry_s_max: u32,
    /// Subscriptions of a session; one more is refused with quota exceeded.
    pub subscriptions_max: usize,
    /// Bytes that the index of subscriptions may take for all sessions, estimated; over it a
    /// subscription is refused with quota exceeded.
    pub subscription_bytes_max: usize,
    /// Members of one shared subscription; one more is refused with quota exceeded. Each message
    /// looks at all of them.
    pub share_members_max: usize,
    /// Bytes of a will; with a larger one a CONNECT is refused with quota exceeded.
    pub will_bytes_max: usize,
    /// Longest client identifier in bytes; a longer one is refused as not valid.
    pub client_id_bytes_max: usize,

    /// Payload of a message in bytes; a larger one closes the connection (packet too large).
    pub message_bytes_max: usize,
    /// Room in a packet for everything but the payload, in bytes.
    pub packet_overhead_bytes: usize,
    /// Topic aliases a client may give on one connection, as CONNACK tells (a higher one closes
    /// it), and aliases given to a client that accepts them; further topics go by name.
    pub topic_alias_max: u16,
    /// Bytes of the names behind the aliases of one direction. A client's alias that exceeds them
    /// closes the connection with quota exceeded; to a client, further topics go by name.
    pub topic_alias_bytes_max: usize,

    /// Unacked QoS 1 and 2 publishes a client may have under way (receive maximum, MQTT 5). More
    /// close the connection.
    pub receive_max: u16,
    /// Bytes of one session's publishes not yet acked; over it the connection is not read and
    /// QoS 0 is dropped.
    pub ingress_session_bytes_max: usize,
    /// Bytes of all publishes not yet acked; over it a connection that publishes is not read and
    /// QoS 0 is dropped.
    pub ingress_total_bytes_max: usize,
    /// Repeats that may still come for publishes accepted after their connection broke; the
    /// oldest is forgotten, and its repeat runs again.
    pub repeats_expected_max: usize,

    /// QoS 2 packet ids of a session whose PUBREL has not come; a further QoS 2 publish is refused
    /// with quota exceeded.
    pub taken_ids_max: usize,
    /// Answers to one connection that wait for their batch; at this bound it is not read.
    pub parked_max: usize,

    /// Messages that wait for a session without a connection; the oldest is dropped.
    pub offline_messages_max: usize,
    /// Bytes that wait for a session without a connection; the oldest is dropped.
    pub offline_bytes_max: usize,
    /// Messages that wait for a connected session; the oldest is dropped.
    pub online_messages_max: usize,
    /// Bytes that wait for a connected session; the oldest is dropped.
    pub online_bytes_max: usize,
    /// Bytes that wait for all sessions or are under way to them; the oldest of the longest queue
    /// is dropped, and QoS 0.
    pub queued_total_bytes_max: usize,

    /// Unacked QoS 1 and 2 messages under way to a client; more wait in the queue. A client's own
    /// receive maximum lowers it.
    pub send_window_max: u16,
    /// Their bytes; one message is always let through.
    pub send_window_bytes_max: usize,
    /// Bytes handed to a connection and not yet written; over it QoS 1 and 2 wait and QoS 0 is
    /// dropped; at twice that the connection is not read either. At least 64 KiB: the transport
    /// tells of what is written in steps of 32 KiB.
    pub egress_bytes_max: usize,
    /// Bytes handed to all connections and not yet written; over it only connections with less
    /// than 8 KiB of them are sent to.
    pub egress_total_bytes_max: usize,
    /// Milliseconds a connection over `egress_bytes_max` may take nothing before it is closed.
    pub egress_stall_ms_max: u64,

    /// Retained messages; a new topic is not retained. 0 turns them off, as CONNACK tells.
    pub retained_messages_max: usize,
    /// Bytes of retained messages; what does not fit is not retained, nor is what it replaces.
    pub retained_bytes_max: usize,

    /// Milliseconds the owner may take to authenticate; then the client is told server busy.
    pub auth_ms_max: u64,
    /// Least seconds between a restart and a will left over from before it.
    pub will_after_restart_s_min: u32,
}

impl Default for Limits {
    fn default() -> Self {
        const KIB: usize = 1_024;
        const MIB: usize = 1_024 * KIB;
        Self {
            connections_max: 10_000,
            sessions_max: 2_000,
            sessions_per_identity_max: 1_000,
            session_expiry_s_max: 7 * 24 * 3_600,
            subscriptions_max: 100,
            subscription_bytes_max: 32 * MIB,
            share_members_max: 64,
            will_bytes_max: 4 * KIB,
            client_id_bytes_max: 256,
            message_bytes_max: 128 * KIB,
            packet_overhead_bytes: 8 * KIB,
            topic_alias_max: crate::codec::TOPIC_ALIAS_MAX,
            topic_alias_bytes_max: crate::codec::TOPIC_ALIAS_BYTES_MAX,
            receive_max: 32,
            ingress_session_bytes_max: 256 * KIB,
            ingress_total_bytes_max: 32 * MIB,
            repeats_expected_max: 256,
            taken_ids_max: 1_024,
            parked_max: 256,
            offline_messages_max: 1_000,
            offline_bytes_max: MIB,
            online_messages_max: 10_000,
            online_bytes_max: 8 * MIB,
            queued_total_bytes_max: 64 * MIB,
            send_window_max: 128,
            send_window_bytes_max: 512 * KIB,
            egress_bytes_max: 256 * KIB,
            egress_total_bytes_max: 64 * MIB,
            egress_stall_ms_max: 60_000,
            retained_messages_max: 10_000,
            retained_bytes_max: 16 * MIB,
            auth_ms_max: 60_000,
            will_after_restart_s_min: 60,
        }
    }
}

impl Limits {
    /// Whether anything is retained: what CONNACK tells as retain available.
    pub(super) fn keeps_retained(&self) -> bool {
        self.retained_messages_max > 0
    }

    /// Largest packet accepted, in bytes: what CONNACK tells as maximum packet size.
    #[must_use]
    pub fn packet_bytes_max(&self) -> usize {
        self.message_bytes_max.saturating_add(self.packet_overhead_bytes)
    }
}
