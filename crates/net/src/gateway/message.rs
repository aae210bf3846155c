//! What travels to a gateway's mailbox.
//!
//! The derive of ractor_cluster would drop a serialized call whose variant it does not know, and
//! with it the reply port: the caller of a later version would wait for its timeout. So the trait
//! is written out, and such a call becomes a message that is answered.

use ractor::RpcReplyPort;
use ractor::message::{BoxedDowncastErr, SerializedMessage};

/// The names of the variants on the wire. They never change.
const CALL: &str = "Call";
const CAST: &str = "Cast";

/// What a gateway is sent.
#[derive(Debug)]
pub enum GatewayMessage {
    /// The bytes of a [`Call`](crate::messages::Call), and where the bytes of the answer go.
    Call(Vec<u8>, RpcReplyPort<Vec<u8>>),
    /// The bytes of a [`Call`](crate::messages::Call) that wants no answer.
    Cast(Vec<u8>),
    /// A call of a variant that this build does not know, by its name. It is answered with an
    /// error, and never sent.
    Unknown(String, RpcReplyPort<Vec<u8>>),
}

impl ractor::Message for GatewayMessage {
    fn serializable() -> bool {
        true
    }

    fn serialize(self) -> Result<SerializedMessage, BoxedDowncastErr> {
        let call = |variant: String, args, reply| SerializedMessage::Call {
            variant,
            args,
            reply,
            metadata: None,
        };
        Ok(match self {
            Self::Call(args, reply) => call(CALL.to_owned(), args, reply),
            Self::Unknown(variant, reply) => call(variant, Vec::new(), reply),
            Self::Cast(args) => {
                SerializedMessage::Cast { variant: CAST.to_owned(), args, metadata: None }
            }
        })
    }

    fn deserialize(message: SerializedMessage) -> Result<Self, BoxedDowncastErr> {
        match message {
            SerializedMessage::Call { variant, args, reply, .. } => Ok(match variant.as_str() {
                CALL => Self::Call(args, reply),
                _ => Self::Unknown(variant, reply),
            }),
            SerializedMessage::Cast { variant, args, .. } if variant == CAST => {
                Ok(Self::Cast(args))
            }
            // Nobody waits for an answer to these.
            SerializedMessage::Cast { .. } | SerializedMessage::CallReply(..) => {
                Err(BoxedDowncastErr)
            }
        }
    }
}
