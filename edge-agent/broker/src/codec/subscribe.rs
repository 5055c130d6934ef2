//! SUBSCRIBE and UNSUBSCRIBE (3.8, 3.10).

use edge_core::topic::TopicFilter;

use super::packet::{RetainHandling, Subscribe, SubscribeOptions, Unsubscribe, Version};
use super::property::{self, NOT_ALLOWED, PropertyReader, id};
use super::publish::qos;
use super::read::Reader;
use super::{DecodeError, FILTERS_MAX, ReasonCode, ack, write};

pub(super) fn decode(mut reader: Reader, version: Version) -> Result<Subscribe, DecodeError> {
    let packet_id = ack::packet_id(&mut reader)?;
    let mut subscription_id = None;
    if version == Version::V5 {
        let mut properties = PropertyReader::new(&mut reader)?;
        while let Some(id) = properties.next()? {
            match id {
                id::SUBSCRIPTION_ID if subscription_id.is_some() => {
                    return Err(DecodeError::protocol("3.8.2.1.2 a second identifier"));
                }
                id::SUBSCRIPTION_ID => subscription_id = Some(properties.subscription_id()?),
                id::USER => properties.skip_user()?,
                _ => return Err(NOT_ALLOWED),
            }
        }
    }
    let mut filters = Vec::new();
    while !reader.is_empty() {
        check_count(filters.len())?;
        let (filter, options) = (filter(&mut reader)?, options(reader.u8()?, version)?);
        if options.no_local && filter.is_shared() {
            return Err(DecodeError::protocol("[MQTT-3.8.3-4] no local on a shared subscription"));
        }
        filters.push((filter, options));
    }
    if filters.is_empty() {
        return Err(DecodeError::protocol("[MQTT-3.8.3-2] SUBSCRIBE without a filter"));
    }
    Ok(Subscribe { packet_id, subscription_id, filters })
}

/// 3.8.3.1
fn options(byte: u8, version: Version) -> Result<SubscribeOptions, DecodeError> {
    let reserved = if version == Version::V5 { 0b1100_0000 } else { 0b1111_1100 };
    if byte & reserved != 0 {
        return Err(DecodeError::malformed("[MQTT-3.8.3-5] reserved subscription option"));
    }
    Ok(SubscribeOptions {
        qos: qos(byte & 0b11)?,
        no_local: byte & 0b100 != 0,
        retain_as_published: byte & 0b1000 != 0,
        retain_handling: match byte >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::Never,
            _ => return Err(DecodeError::protocol("3.8.3.1 retain handling 3")),
        },
    })
}

pub(super) fn decode_unsubscribe(
    mut reader: Reader,
    version: Version,
) -> Result<Unsubscribe, DecodeError> {
    let packet_id = ack::packet_id(&mut reader)?;
    if version == Version::V5 {
        let mut properties = PropertyReader::new(&mut reader)?;
        while let Some(id) = properties.next()? {
            match id {
                id::USER => properties.skip_user()?,
                _ => return Err(NOT_ALLOWED),
            }
        }
    }
    let mut filters = Vec::new();
    while !reader.is_empty() {
        check_count(filters.len())?;
        filters.push(filter(&mut reader)?);
    }
    if filters.is_empty() {
        return Err(DecodeError::protocol("[MQTT-3.10.3-2] UNSUBSCRIBE without a filter"));
    }
    Ok(Unsubscribe { packet_id, filters })
}

fn filter(reader: &mut Reader) -> Result<TopicFilter, DecodeError> {
    reader.with_str(|text| TopicFilter::new(text).map_err(DecodeError::topic_filter))
}

fn check_count(filters: usize) -> Result<(), DecodeError> {
    if filters < FILTERS_MAX {
        return Ok(());
    }
    let rule = "more filters in one packet than this server accepts";
    Err(DecodeError::new(ReasonCode::QuotaExceeded, rule))
}

pub(super) fn encode(subscribe: &Subscribe, version: Version, out: &mut Vec<u8>) {
    // [MQTT-3.8.1-1]: bits 3 to 0 are 0010.
    write::packet(0x82, out, |body| {
        body.extend_from_slice(&subscribe.packet_id.get().to_be_bytes());
        if version == Version::V5 {
            property::block(body, |block| {
                property::write_subscription_ids(block, subscribe.subscription_id.as_slice());
            });
        }
        for (filter, options) in &subscribe.filters {
            write::string(body, filter.as_str());
            body.push(options_byte(*options, version));
        }
    });
}

fn options_byte(options: SubscribeOptions, version: Version) -> u8 {
    let qos = write::qos_bits(options.qos);
    if version == Version::V311 {
        return qos;
    }
    let handling = match options.retain_handling {
        RetainHandling::Send => 0,
        RetainHandling::SendIfNew => 1,
        RetainHandling::Never => 2,
    };
    qos | u8::from(options.no_local) << 2
        | u8::from(options.retain_as_published) << 3
        | handling << 4
}

pub(super) fn encode_unsubscribe(unsubscribe: &Unsubscribe, version: Version, out: &mut Vec<u8>) {
    // [MQTT-3.10.1-1]: bits 3 to 0 are 0010.
    write::packet(0xA2, out, |body| {
        body.extend_from_slice(&unsubscribe.packet_id.get().to_be_bytes());
        if version == Version::V5 {
            body.push(0);
        }
        for filter in &unsubscribe.filters {
            write::string(body, filter.as_str());
        }
    });
}
