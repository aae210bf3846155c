//! The message type of the gateway's actor.
//!
//! The derive macro of ractor_cluster would drop a serialized call with an unknown variant together
//! with its reply port, and a caller of a later version would wait for its timeout. The trait is
//! therefore implemented by hand, and such a call becomes [`GatewayMessage::Unknown`], which gets a
//! reply.

use ractor::RpcReplyPort;
use ractor::message::{BoxedDowncastErr, SerializedMessage};

/// The names of the variants in the serialized form. They never change.
const CALL: &str = "Call";
const CAST: &str = "Cast";

/// A message to a gateway.
#[derive(Debug)]
pub enum GatewayMessage {
    /// An encoded [`Call`](crate::messages::Call), and the port for the encoded reply.
    Call(Vec<u8>, RpcReplyPort<Vec<u8>>),
    /// An encoded [`Call`](crate::messages::Call) without a reply.
    Cast(Vec<u8>),
    /// A received call with an unknown variant, by name. The gateway replies with an error.
    /// Never sent.
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
            // No caller waits for a reply to these.
            SerializedMessage::Cast { .. } | SerializedMessage::CallReply(..) => {
                Err(BoxedDowncastErr)
            }
        }
    }
}
