/* Bytes of messages: postcard, as section 2 of the device protocol's SPEC.md states it.
 *
 * A writer or reader that ran out of bytes, or met what is not canonical, has `failed` and does nothing any more; ask once,
 * at the end. Needs nothing but a compiler for C11.
 */
#ifndef HOLM_POSTCARD_H
#define HOLM_POSTCARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint8_t *start;
    size_t capacity;
    size_t length; /* bytes written */
    bool failed;
} holm_writer;

typedef struct {
    const uint8_t *start;
    size_t length;
    size_t at; /* bytes read */
    bool failed;
} holm_reader;

/* ---- Writing ---- */

static inline holm_writer holm_writer_on(void *start, size_t capacity)
{
    holm_writer writer = { (uint8_t *)start, capacity, 0, false };
    return writer;
}

/* u8, and each byte of an array of them. */
static inline void holm_write_u8(holm_writer *writer, uint8_t value)
{
    if (writer->failed || writer->length >= writer->capacity) {
        writer->failed = true;
        return;
    }
    writer->start[writer->length++] = value;
}

/* u16, u32, u64, lengths, and numbers of variants: seven bits a byte, least significant first. */
static inline void holm_write_unsigned(holm_writer *writer, uint64_t value)
{
    while (value >= 0x80u) {
        holm_write_u8(writer, (uint8_t)(value | 0x80u));
        value >>= 7;
    }
    holm_write_u8(writer, (uint8_t)value);
}

/* i16, i32, i64: zigzag, then as above. */
static inline void holm_write_signed(holm_writer *writer, int64_t value)
{
    uint64_t sign = value < 0 ? UINT64_MAX : 0;
    holm_write_unsigned(writer, ((uint64_t)value << 1) ^ sign);
}

static inline void holm_write_bool(holm_writer *writer, bool value)
{
    holm_write_u8(writer, value ? 1 : 0);
}

/* fix64 of the specification; also the bits of an f64. */
static inline void holm_write_fix64(holm_writer *writer, uint64_t value)
{
    for (unsigned at = 0; at < 8; at++) {
        holm_write_u8(writer, (uint8_t)(value >> (8 * at)));
    }
}

/* Bits of an f32. */
static inline void holm_write_fix32(holm_writer *writer, uint32_t value)
{
    for (unsigned at = 0; at < 4; at++) {
        holm_write_u8(writer, (uint8_t)(value >> (8 * at)));
    }
}

/* Bytes without a length: an array. */
static inline void holm_write_array(holm_writer *writer, const void *bytes, size_t length)
{
    for (size_t at = 0; at < length; at++) {
        holm_write_u8(writer, ((const uint8_t *)bytes)[at]);
    }
}

/* bytes and text (UTF-8) of the specification. */
static inline void holm_write_bytes(holm_writer *writer, const void *bytes, size_t length)
{
    holm_write_unsigned(writer, length);
    holm_write_array(writer, bytes, length);
}

/* Text that ends with a NUL. */
static inline void holm_write_text(holm_writer *writer, const char *text)
{
    size_t length = 0;
    while (text[length] != '\0') {
        length++;
    }
    holm_write_bytes(writer, text, length);
}

/* ---- Reading ---- */

static inline holm_reader holm_reader_on(const void *start, size_t length)
{
    holm_reader reader = { (const uint8_t *)start, length, 0, false };
    return reader;
}

static inline uint8_t holm_read_u8(holm_reader *reader)
{
    if (reader->failed || reader->at >= reader->length) {
        reader->failed = true;
        return 0;
    }
    return reader->start[reader->at++];
}

/* A number of at most `bits` bits (16, 32 or 64). What is larger fails. */
static inline uint64_t holm_read_unsigned(holm_reader *reader, unsigned bits)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < bits; shift += 7) {
        uint8_t byte = holm_read_u8(reader);
        uint64_t part = byte & 0x7fu;
        bool is_padded = shift != 0 && byte == 0;
        if (reader->failed || is_padded || (bits - shift < 7 && part >> (bits - shift) != 0)) {
            break;
        }
        value |= part << shift;
        if ((byte & 0x80u) == 0) {
            return value;
        }
    }
    reader->failed = true;
    return 0;
}

static inline int64_t holm_read_signed(holm_reader *reader, unsigned bits)
{
    uint64_t zigzag = holm_read_unsigned(reader, bits);
    int64_t half = (int64_t)(zigzag >> 1);
    return (zigzag & 1u) != 0 ? -half - 1 : half;
}

static inline bool holm_read_bool(holm_reader *reader)
{
    uint8_t value = holm_read_u8(reader);
    if (value > 1) {
        reader->failed = true;
    }
    return value == 1;
}

static inline uint64_t holm_read_fix64(holm_reader *reader)
{
    uint64_t value = 0;
    for (unsigned at = 0; at < 8; at++) {
        value |= (uint64_t)holm_read_u8(reader) << (8 * at);
    }
    return reader->failed ? 0 : value;
}

static inline uint32_t holm_read_fix32(holm_reader *reader)
{
    uint32_t value = 0;
    for (unsigned at = 0; at < 4; at++) {
        value |= (uint32_t)holm_read_u8(reader) << (8 * at);
    }
    return reader->failed ? 0 : value;
}

/* So many bytes, in place; NULL if there are not so many. */
static inline const uint8_t *holm_read_array(holm_reader *reader, size_t length)
{
    if (reader->failed || length > reader->length - reader->at) {
        reader->failed = true;
        return NULL;
    }
    const uint8_t *bytes = reader->start + reader->at;
    reader->at += length;
    return bytes;
}

/* bytes or text of the specification, in place, without a NUL; at most `longest`. */
static inline const uint8_t *holm_read_bytes(holm_reader *reader, size_t longest, size_t *length)
{
    uint64_t stated = holm_read_unsigned(reader, 32);
    if (stated > longest) {
        reader->failed = true;
    }
    *length = reader->failed ? 0 : (size_t)stated;
    return holm_read_array(reader, *length);
}

/* Nothing failed, and nothing is left: what a reader of a message must ask at its end. */
static inline bool holm_reader_is_done(const holm_reader *reader)
{
    return !reader->failed && reader->at == reader->length;
}

#endif
