//! Frames as a test writes and reads them. Nothing is checked, so that invalid frames can be sent too.

/// One frame (RFC 6455 §5.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) fin: bool,
    /// The three reserved bits, RSV1 as 4.
    pub(crate) reserved: u8,
    pub(crate) opcode: u8,
    pub(crate) masked: bool,
    /// The payload, unmasked.
    pub(crate) payload: Vec<u8>,
}

// === impl Frame ===

impl Frame {
    pub(crate) fn text(text: &str) -> Frame {
        Frame::new(0x1, text.as_bytes())
    }

    pub(crate) fn binary(payload: &[u8]) -> Frame {
        Frame::new(0x2, payload)
    }

    pub(crate) fn close(code: u16, reason: &str) -> Frame {
        Frame::new(0x8, &[&code.to_be_bytes(), reason.as_bytes()].concat())
    }

    pub(crate) fn ping(payload: &[u8]) -> Frame {
        Frame::new(0x9, payload)
    }

    pub(crate) fn pong(payload: &[u8]) -> Frame {
        Frame::new(0xA, payload)
    }

    pub(crate) fn new(opcode: u8, payload: &[u8]) -> Frame {
        Frame {
            fin: true,
            reserved: 0,
            opcode,
            masked: false,
            payload: payload.to_vec(),
        }
    }

    /// Masks the frame as a client must, with a constant key.
    pub(crate) fn masked(mut self) -> Frame {
        self.masked = true;
        self
    }

    pub(crate) fn is_close(&self) -> bool {
        self.opcode == 0x8
    }

    /// The code and the reason of a Close.
    #[track_caller]
    pub(crate) fn closes_with(&self) -> (u16, &str) {
        assert!(self.is_close(), "not a Close: {self:?}");
        let [high, low, reason @ ..] = self.payload.as_slice() else {
            panic!("a Close without a code: {self:?}");
        };
        let reason = std::str::from_utf8(reason).expect("a reason is UTF-8 (RFC 6455 §5.5.1)");
        (u16::from_be_bytes([*high, *low]), reason)
    }

    /// The bytes on the wire.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mask_bit = u8::from(self.masked) << 7;
        let mut bytes = vec![u8::from(self.fin) << 7 | self.reserved << 4 | self.opcode];
        match self.payload.len() {
            len @ ..=125 => bytes.push(mask_bit | len as u8),
            len @ ..=65_535 => {
                bytes.push(mask_bit | 126);
                bytes.extend((len as u16).to_be_bytes());
            }
            len => {
                bytes.push(mask_bit | 127);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        if self.masked {
            bytes.extend(KEY);
            bytes.extend(apply(KEY, &self.payload));
        } else {
            bytes.extend(&self.payload);
        }
        bytes
    }

    /// The frame at the start of `bytes` and its encoded length, once it is complete.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Frame, usize)> {
        let (&[first, second], mut rest) = bytes.split_first_chunk::<2>()?;
        let length = match second & 0x7F {
            126 => {
                let (length, after) = rest.split_first_chunk::<2>()?;
                rest = after;
                usize::from(u16::from_be_bytes(*length))
            }
            127 => {
                let (length, after) = rest.split_first_chunk::<8>()?;
                rest = after;
                u64::from_be_bytes(*length) as usize
            }
            length => usize::from(length),
        };
        let masked = second & 0x80 != 0;
        let mut key = [0; 4];
        if masked {
            let (found, after) = rest.split_first_chunk::<4>()?;
            (key, rest) = (*found, after);
        }
        let payload = apply(key, rest.get(..length)?);
        let frame = Frame {
            fin: first & 0x80 != 0,
            reserved: first >> 4 & 0x7,
            opcode: first & 0xF,
            masked,
            payload,
        };
        Some((frame, bytes.len() - rest.len() + length))
    }
}

fn apply(key: [u8; 4], payload: &[u8]) -> Vec<u8> {
    payload
        .iter()
        .zip(key.iter().cycle())
        .map(|(byte, key)| byte ^ key)
        .collect()
}

const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
