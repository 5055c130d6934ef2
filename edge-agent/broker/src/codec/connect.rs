//! CONNECT (3.1).

use edge_core::message::Properties;
use edge_core::topic::Topic;

use super::packet::{Connect, Version, Will};
use super::property::{self, NOT_ALLOWED, PropertyReader, id};
use super::publish::qos;
use super::read::Reader;
use super::{DecodeError, ReasonCode, write};

const CLEAN_START: u8 = 0b0000_0010;
const WILL: u8 = 0b0000_0100;
const WILL_QOS: u8 = 0b0001_1000;
const WILL_RETAIN: u8 = 0b0010_0000;
const PASSWORD: u8 = 0b0100_0000;
const USERNAME: u8 = 0b1000_0000;

pub(super) fn decode(mut reader: Reader) -> Result<Connect, DecodeError> {
    let version = version(&mut reader)?;
    let known = |error: DecodeError| DecodeError { version: Some(version), ..error };
    let flags = flags(&mut reader, version).map_err(known)?;
    let mut connect = Connect::new(version, "");
    connect.clean_start = flags & CLEAN_START != 0;
    (|| {
        connect.keep_alive_s = reader.u16()?;
        match version {
            Version::V5 => connect_properties(&mut reader, &mut connect)?,
            // v3.1.1 3.1.2.4: a session that is not clean is kept.
            Version::V311 if !connect.clean_start => connect.session_expiry_s = u32::MAX,
            Version::V311 => {}
        }
        connect.client_id = reader.string()?;
        if flags & WILL != 0 {
            connect.will = Some(will(&mut reader, version, flags)?);
        }
        if flags & USERNAME != 0 {
            connect.username = Some(reader.string()?);
        }
        if flags & PASSWORD != 0 {
            connect.password = Some(reader.binary()?);
        }
        reader.finish()
    })()
    .map_err(known)?;
    Ok(connect)
}

/// Protocol name and level (3.1.2.1, 3.1.2.2).
fn version(reader: &mut Reader) -> Result<Version, DecodeError> {
    const UNSUPPORTED: DecodeError = DecodeError::new(
        ReasonCode::UnsupportedProtocolVersion,
        "[MQTT-3.1.2-2] protocol version other than 3.1.1 and 5",
    );
    let v31 = reader.with_str(|name| match name {
        "MQTT" => Ok(false),
        "MQIsdp" => Ok(true),
        _ => Err(DecodeError::protocol("[MQTT-3.1.2-1] protocol name is not MQTT")),
    })?;
    match reader.u8()? {
        _ if v31 => Err(DecodeError { version: Some(Version::V311), ..UNSUPPORTED }),
        4 => Ok(Version::V311),
        5 => Ok(Version::V5),
        // The answer has the form of the nearest version the client may know.
        0..4 => Err(DecodeError { version: Some(Version::V311), ..UNSUPPORTED }),
        6.. => Err(DecodeError { version: Some(Version::V5), ..UNSUPPORTED }),
    }
}

fn flags(reader: &mut Reader, version: Version) -> Result<u8, DecodeError> {
    let flags = reader.u8()?;
    if flags & 1 != 0 {
        return Err(DecodeError::malformed("[MQTT-3.1.2-3] reserved connect flag"));
    }
    if flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0 {
        return Err(DecodeError::malformed(
            "[MQTT-3.1.2-11] [MQTT-3.1.2-13] will flags without a will",
        ));
    }
    if flags & WILL_QOS == WILL_QOS {
        return Err(DecodeError::malformed("[MQTT-3.1.2-12] will QoS 3"));
    }
    if version == Version::V311 && flags & PASSWORD != 0 && flags & USERNAME == 0 {
        return Err(DecodeError::malformed("v3.1.1 [MQTT-3.1.2-22] password without a user name"));
    }
    Ok(flags)
}

/// 3.1.2.11
fn connect_properties(reader: &mut Reader, connect: &mut Connect) -> Result<(), DecodeError> {
    let mut properties = PropertyReader::new(reader)?;
    let mut auth_data = false;
    while let Some(id) = properties.next()? {
        match id {
            id::SESSION_EXPIRY => connect.session_expiry_s = properties.value().u32()?,
            id::RECEIVE_MAX => {
                connect.receive_max = nonzero(properties.value().u16()?)?;
            }
            id::PACKET_BYTES_MAX => {
                connect.packet_bytes_max = Some(nonzero(properties.value().u32()?)?);
            }
            id::TOPIC_ALIAS_MAX => connect.topic_alias_max = properties.value().u16()?,
            // 3.1.2.11.6: the server need not give response information.
            id::REQUEST_RESPONSE_INFO => drop(properties.flag()?),
            id::REQUEST_PROBLEM_INFO => connect.request_problem_info = properties.flag()?,
            id::USER => properties.skip_user()?,
            id::AUTH_METHOD => connect.auth_method = Some(properties.value().string()?),
            id::AUTH_DATA => {
                properties.value().binary()?;
                auth_data = true;
            }
            _ => return Err(NOT_ALLOWED),
        }
    }
    if auth_data && connect.auth_method.is_none() {
        return Err(DecodeError::protocol("3.1.2.11.10 authentication data without a method"));
    }
    Ok(())
}

/// 3.1.2.11.3, 3.1.2.11.4: receive maximum and maximum packet size are never zero.
fn nonzero<T: Default + PartialEq>(value: T) -> Result<T, DecodeError> {
    if value == T::default() {
        return Err(DecodeError::protocol("3.1.2.11 receive maximum or packet size of zero"));
    }
    Ok(value)
}

/// 3.1.3.2 to 3.1.3.4
fn will(reader: &mut Reader, version: Version, flags: u8) -> Result<Will, DecodeError> {
    let (mut properties, mut expiry_s, mut delay_s) = (Properties::default(), None, 0);
    if version == Version::V5 {
        let mut block = PropertyReader::new(reader)?;
        while let Some(id) = block.next()? {
            match id {
                id::WILL_DELAY => delay_s = block.value().u32()?,
                id => block.message(id, &mut properties, &mut expiry_s)?,
            }
        }
    }
    Ok(Will {
        topic: reader.with_str(|name| Topic::new(name).map_err(DecodeError::topic_name))?,
        payload: reader.binary()?,
        qos: qos((flags & WILL_QOS) >> 3)?,
        retain: flags & WILL_RETAIN != 0,
        delay_s,
        expiry_s,
        properties,
    })
}

pub(super) fn encode(connect: &Connect, out: &mut Vec<u8>) {
    write::packet(0x10, out, |body| {
        write::string(body, "MQTT");
        body.push(if connect.version == Version::V5 { 5 } else { 4 });
        body.push(flags_of(connect));
        body.extend_from_slice(&connect.keep_alive_s.to_be_bytes());
        if connect.version == Version::V5 {
            property::block(body, |block| encode_properties(connect, block));
        }
        write::string(body, &connect.client_id);
        if let Some(will) = &connect.will {
            encode_will(will, connect.version, body);
        }
        if let Some(username) = &connect.username {
            write::string(body, username);
        }
        if let Some(password) = &connect.password {
            write::binary(body, password);
        }
    });
}

fn flags_of(connect: &Connect) -> u8 {
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    let will = connect.will.as_ref();
    bit(connect.clean_start, CLEAN_START)
        | bit(will.is_some(), WILL)
        | will.map_or(0, |will| write::qos_bits(will.qos) << 3)
        | bit(will.is_some_and(|will| will.retain), WILL_RETAIN)
        | bit(connect.password.is_some(), PASSWORD)
        | bit(connect.username.is_some(), USERNAME)
}

fn encode_properties(connect: &Connect, block: &mut Vec<u8>) {
    let some = |set: bool| set.then_some(());
    let expiry = some(connect.session_expiry_s != 0).map(|()| connect.session_expiry_s);
    property::write_u32(block, id::SESSION_EXPIRY, expiry);
    let receive_max = some(connect.receive_max != u16::MAX).map(|()| connect.receive_max);
    property::write_u16(block, id::RECEIVE_MAX, receive_max);
    property::write_u32(block, id::PACKET_BYTES_MAX, connect.packet_bytes_max);
    let topic_alias_max = some(connect.topic_alias_max != 0).map(|()| connect.topic_alias_max);
    property::write_u16(block, id::TOPIC_ALIAS_MAX, topic_alias_max);
    let problem_info = some(!connect.request_problem_info).map(|()| false);
    property::write_flag(block, id::REQUEST_PROBLEM_INFO, problem_info);
    property::write_string(block, id::AUTH_METHOD, connect.auth_method.as_deref());
}

fn encode_will(will: &Will, version: Version, body: &mut Vec<u8>) {
    if version == Version::V5 {
        property::block(body, |block| {
            let delay_s = (will.delay_s != 0).then_some(will.delay_s);
            property::write_u32(block, id::WILL_DELAY, delay_s);
            property::write_message(block, &will.properties, will.expiry_s);
        });
    }
    write::string(body, will.topic.as_str());
    write::binary(body, &will.payload);
}
