//! Netlink datagrams: requests out, datagrams in.
//!
//! Requests with a type in netlink-packet-audit (status, list) are framed by
//! it; rule bodies and user messages are bytes of our own, because that crate
//! cannot carry them (`reference/kernel-audit.md` 22). What comes in is cut
//! here by the byte count of the receive call: the kernel's own length field
//! is 16 too small in records sent to the registered daemon.

use netlink_packet_audit::{AuditMessage, StatusMessage};
use netlink_packet_core::{
    Emitable, ErrorBuffer, NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};

/// Bytes of a netlink header.
pub const HEADER_LEN: usize = 16;

/// Message types of audit netlink and of netlink itself.
pub mod kind {
    /// Answer with an error code; 0 is success.
    pub const ERROR: u16 = 2;
    /// End of an answer of several datagrams.
    pub const DONE: u16 = 3;
    /// Asks for the status, and the answer.
    pub const GET: u16 = 1000;
    /// Changes the status.
    pub const SET: u16 = 1001;
    /// Adds a rule.
    pub const ADD_RULE: u16 = 1011;
    /// Deletes a rule.
    pub const DEL_RULE: u16 = 1012;
    /// Lists rules, and each answer.
    pub const LIST_RULES: u16 = 1013;
    /// Asks who sent the last signal to the registered process.
    pub const SIGNAL_INFO: u16 = 1010;
    /// A message from a trusted application; our heartbeat.
    pub const TRUSTED_APP: u16 = 1121;
    /// Another process tried to register: 4 bytes, its pid.
    pub const REPLACE: u16 = 1329;
}

/// What is asked of the kernel.
#[derive(Debug, Clone)]
pub(crate) enum Request<'a> {
    GetStatus,
    SetStatus(StatusMessage),
    ListRules,
    AddRule(&'a [u8]),
    DeleteRule(&'a [u8]),
    SignalInfo,
    /// A message that becomes a record of this type. Its last byte must be
    /// NUL: the kernel overwrites it.
    User(u16, &'a [u8]),
}

impl Request<'_> {
    /// The request in words, for errors.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Request::GetStatus => "reading the audit status",
            Request::SetStatus(_) => "changing an audit setting",
            Request::ListRules => "listing audit rules",
            Request::AddRule(_) => "adding an audit rule",
            Request::DeleteRule(_) => "deleting an audit rule",
            Request::SignalInfo => "asking who sent the signal",
            Request::User(..) => "sending an audit message",
        }
    }

    pub(crate) const fn kind(&self) -> u16 {
        match self {
            Request::GetStatus => kind::GET,
            Request::SetStatus(_) => kind::SET,
            Request::ListRules => kind::LIST_RULES,
            Request::AddRule(_) => kind::ADD_RULE,
            Request::DeleteRule(_) => kind::DEL_RULE,
            Request::SignalInfo => kind::SIGNAL_INFO,
            Request::User(kind, _) => *kind,
        }
    }

    /// The request as a datagram that asks for an acknowledgement.
    pub(crate) fn datagram(&self, sequence: u32) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK;
        header.sequence_number = sequence;
        let message = match self {
            Request::GetStatus => AuditMessage::GetStatus(None),
            Request::ListRules => AuditMessage::ListRules(None),
            Request::SetStatus(status) => AuditMessage::SetStatus(status.clone()),
            Request::AddRule(body) | Request::DeleteRule(body) | Request::User(_, body) => {
                return raw(header, self.kind(), body);
            }
            Request::SignalInfo => return raw(header, self.kind(), &[]),
        };
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut out = vec![0; message.buffer_len()];
        message.serialize(&mut out);
        out
    }
}

fn raw(mut header: NetlinkHeader, kind: u16, body: &[u8]) -> Vec<u8> {
    header.message_type = kind;
    header.length = u32::try_from(HEADER_LEN + body.len()).unwrap_or(u32::MAX);
    let mut out = vec![0; HEADER_LEN];
    header.emit(&mut out);
    out.extend_from_slice(body);
    // The datagram is padded to 4 bytes, its length field is not.
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// One datagram from the kernel. A datagram carries exactly one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Message type.
    pub kind: u16,
    /// Sequence number of the request that this answers; 0 in records.
    pub sequence: u32,
    /// Everything behind the header that was received.
    pub payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Cuts a received datagram; `None` if it is shorter than a header.
    #[must_use]
    pub fn cut(bytes: &'a [u8]) -> Option<Datagram<'a>> {
        let (header, payload) = bytes.split_first_chunk::<HEADER_LEN>()?;
        let [_, _, _, _, k0, k1, _, _, s0, s1, s2, s3, ..] = *header;
        Some(Datagram {
            kind: u16::from_ne_bytes([k0, k1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            payload,
        })
    }

    /// The code of an [`kind::ERROR`] datagram: 0 or positive is success
    /// (counter resets answer with the old value), negative is −errno.
    #[must_use]
    pub fn error_code(&self) -> Option<i32> {
        if self.kind != kind::ERROR {
            return None;
        }
        let buffer = ErrorBuffer::new_checked(self.payload).ok()?;
        Some(buffer.code().map_or(0, i32::from))
    }
}

#[cfg(test)]
mod tests;
