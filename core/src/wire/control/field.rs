//! Scalars, strings, ids, options and lists.

use alloc::string::String;
use alloc::vec::Vec;

use super::{ConvertError, MAX_STRING_BYTES, Wire};
use crate::id::{
    Address, BootId, ChunkId, ChunkVersion, ClientId, ClusterId, FileId, ProcessId, RequestId, ServerId,
    SessionId, TrashId, UploadId, VolumeId,
};
use crate::time::UnixMs;

macro_rules! same {
    ($($type:ty),*) => {$(
        impl Wire<$type> for $type {
            fn put(&self) -> $type {
                *self
            }

            fn take(proto: $type, _field: &'static str) -> Result<Self, ConvertError> {
                Ok(proto)
            }
        }
    )*};
}

macro_rules! narrow {
    ($($type:ty),*) => {$(
        impl Wire<u32> for $type {
            fn put(&self) -> u32 {
                u32::from(*self)
            }

            fn take(proto: u32, field: &'static str) -> Result<Self, ConvertError> {
                <$type>::try_from(proto).map_err(|_| ConvertError::OutOfRange { field, value: proto.into() })
            }
        }
    )*};
}

macro_rules! newtypes {
    ($inner:ty: $($type:ident),*) => {$(
        impl Wire<$inner> for $type {
            fn put(&self) -> $inner {
                self.0
            }

            fn take(proto: $inner, _field: &'static str) -> Result<Self, ConvertError> {
                Ok($type(proto))
            }
        }
    )*};
}

same!(u32, u64, bool);
narrow!(u8, u16);
newtypes!(u32: ChunkVersion);
newtypes!(u64: BootId, ChunkId, ClientId, ClusterId, FileId, ProcessId, RequestId, ServerId, SessionId, TrashId,
    UnixMs, UploadId, VolumeId);

impl Wire<String> for String {
    fn put(&self) -> String {
        self.clone()
    }

    fn take(proto: String, field: &'static str) -> Result<Self, ConvertError> {
        if proto.len() > MAX_STRING_BYTES {
            return Err(ConvertError::TooLong { field, length: proto.len() });
        }
        Ok(proto)
    }
}

impl Wire<String> for Address {
    fn put(&self) -> String {
        String::from(&*self.0)
    }

    fn take(proto: String, field: &'static str) -> Result<Self, ConvertError> {
        // A DNS name has at most 253 bytes.
        if proto.len() > 300 {
            return Err(ConvertError::TooLong { field, length: proto.len() });
        }
        Ok(Address::new(&proto))
    }
}

impl<P, T: Wire<P>> Wire<Option<P>> for Option<T> {
    fn put(&self) -> Option<P> {
        self.as_ref().map(Wire::put)
    }

    fn take(proto: Option<P>, field: &'static str) -> Result<Self, ConvertError> {
        proto.map(|proto| Wire::take(proto, field)).transpose()
    }
}

impl<P, T: Wire<P>> Wire<Vec<P>> for Vec<T> {
    fn put(&self) -> Vec<P> {
        self.iter().map(Wire::put).collect()
    }

    fn take(proto: Vec<P>, field: &'static str) -> Result<Self, ConvertError> {
        if proto.len() > T::LIST_MAX {
            return Err(ConvertError::TooLong { field, length: proto.len() });
        }
        proto.into_iter().map(|item| Wire::take(item, field)).collect()
    }
}
