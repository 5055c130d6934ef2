/* holm_postcard.h against the vectors of the protocol: the path of vectors.txt is the argument. */

#include <string.h>

#include "hooks.h"
#include "holm_postcard.h"

#define SCHEMA UINT64_C(0xbcbc55d1530102e5)
#define NOW_MS UINT64_C(1795737600123)

static const char *vectors;

/* The bytes of a vector; how many. */
static size_t vector(const char *name, uint8_t *out)
{
    static char text[16384];
    FILE *file = fopen(vectors, "r");
    CHECK(file != NULL);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        size_t length = strlen(name);
        if (strncmp(line, name, length) != 0 || strncmp(line + length, " = ", 3) != 0) {
            continue;
        }
        const char *digits = line + length + 3;
        size_t count = strlen(digits) / 2;
        for (size_t at = 0; at < count; at++) {
            unsigned byte;
            CHECK(sscanf(digits + 2 * at, "%2x", &byte) == 1);
            out[at] = (uint8_t)byte;
        }
        return count;
    }
    fprintf(stderr, "no vector %s\n", name);
    exit(1);
}

static void is_vector(const char *name, const holm_writer *writer)
{
    uint8_t wanted[512];
    size_t length = vector(name, wanted);
    CHECK(!writer->failed);
    if (writer->length != length || memcmp(writer->start, wanted, length) != 0) {
        fprintf(stderr, "%s: other bytes\n", name);
        exit(1);
    }
}

typedef struct {
    const char *device;
    uint64_t boot, sequence, schema, ms;
    uint8_t quality;
    const uint8_t *body;
    size_t body_length;
} envelope;

static void write_envelope(holm_writer *writer, const envelope *envelope)
{
    holm_write_u8(writer, 1);
    holm_write_text(writer, envelope->device);
    holm_write_fix64(writer, envelope->boot);
    holm_write_unsigned(writer, envelope->sequence);
    holm_write_fix64(writer, envelope->schema);
    holm_write_unsigned(writer, envelope->quality);
    holm_write_unsigned(writer, envelope->ms);
    holm_write_bytes(writer, envelope->body, envelope->body_length);
}

static void check_envelopes(void)
{
    uint8_t bytes[256];
    envelope least = { .device = "a" };
    holm_writer writer = holm_writer_on(bytes, sizeof bytes);
    write_envelope(&writer, &least);
    is_vector("envelope-least", &writer);

    /* The body: a Reading { milli_celsius: 23_750 }. */
    uint8_t body[5];
    holm_writer reading = holm_writer_on(body, sizeof body);
    holm_write_signed(&reading, 23750);
    envelope full = { "press-7", UINT64_C(0x0123456789abcdef), 300, SCHEMA, NOW_MS, 2, body, reading.length };
    writer = holm_writer_on(bytes, sizeof bytes);
    write_envelope(&writer, &full);
    is_vector("envelope", &writer);

    holm_reader read_body = holm_reader_on(body, reading.length);
    CHECK(holm_read_signed(&read_body, 32) == 23750 && holm_reader_is_done(&read_body));

    /* One byte less, wherever: it fails, and stays in its bounds. */
    for (size_t room = 0; room < writer.length; room++) {
        uint8_t *exact = malloc(room + 1);
        holm_writer small = holm_writer_on(exact, room);
        write_envelope(&small, &full);
        CHECK(small.failed && small.length <= room);
        free(exact);
    }
}

static void check_system(void)
{
    uint8_t bytes[256];
    const uint8_t body[] = { 1, 2 };
    holm_writer writer = holm_writer_on(bytes, sizeof bytes);
    holm_write_u8(&writer, 1);
    holm_write_unsigned(&writer, 0);
    holm_write_fix64(&writer, UINT64_MAX);
    holm_write_unsigned(&writer, 3);
    holm_write_fix64(&writer, 0);
    holm_write_text(&writer, "no such rate");
    is_vector("up-response-failed", &writer);

    writer = holm_writer_on(bytes, sizeof bytes);
    holm_write_u8(&writer, 1);
    holm_write_unsigned(&writer, 4);
    holm_write_text(&writer, "queue_records");
    holm_write_unsigned(&writer, 0);
    holm_write_unsigned(&writer, 9);
    holm_write_signed(&writer, -12);
    is_vector("up-metric", &writer);

    writer = holm_writer_on(bytes, sizeof bytes);
    const uint8_t image[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    holm_write_u8(&writer, 1);
    holm_write_unsigned(&writer, 5);
    holm_write_array(&writer, image, sizeof image);
    holm_write_unsigned(&writer, 65536);
    holm_write_unsigned(&writer, 1024);
    is_vector("up-want", &writer);

    size_t length = vector("down-command", bytes);
    holm_reader reader = holm_reader_on(bytes, length);
    CHECK(holm_read_u8(&reader) == 1 && holm_read_unsigned(&reader, 32) == 0);
    CHECK(holm_read_fix64(&reader) == 7);
    size_t name_length, body_length;
    const uint8_t *name = holm_read_bytes(&reader, 32, &name_length);
    CHECK(name != NULL && name_length == 4 && memcmp(name, "rate", 4) == 0);
    CHECK(holm_read_fix64(&reader) == SCHEMA);
    const uint8_t *read = holm_read_bytes(&reader, 96, &body_length);
    CHECK(read != NULL && body_length == sizeof body && memcmp(read, body, sizeof body) == 0);
    CHECK(holm_reader_is_done(&reader));

    /* Cut anywhere, it is not done. */
    for (size_t cut = 0; cut < length; cut++) {
        reader = holm_reader_on(bytes, cut);
        holm_read_u8(&reader);
        holm_read_unsigned(&reader, 32);
        holm_read_fix64(&reader);
        holm_read_bytes(&reader, 32, &name_length);
        holm_read_fix64(&reader);
        holm_read_bytes(&reader, 96, &body_length);
        CHECK(!holm_reader_is_done(&reader));
    }
}

static void check_numbers(void)
{
    const int64_t numbers[] = { 0, 1, -1, 63, -64, 64, 127, 128, 300, -40000, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN };
    for (size_t at = 0; at < sizeof numbers / sizeof numbers[0]; at++) {
        uint8_t bytes[10];
        holm_writer writer = holm_writer_on(bytes, sizeof bytes);
        holm_write_signed(&writer, numbers[at]);
        holm_reader reader = holm_reader_on(bytes, writer.length);
        CHECK(!writer.failed && holm_read_signed(&reader, 64) == numbers[at] && holm_reader_is_done(&reader));
    }
    /* Too large for its type, and too long for any. */
    const uint8_t over_u16[] = { 0xff, 0xff, 0x04 }, over_u32[] = { 0xff, 0xff, 0xff, 0xff, 0x10 };
    const uint8_t most_u32[] = { 0xff, 0xff, 0xff, 0xff, 0x0f };
    const uint8_t over_u64[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02 };
    holm_reader reader = holm_reader_on(over_u16, sizeof over_u16);
    CHECK(holm_read_unsigned(&reader, 16) == 0 && reader.failed);
    reader = holm_reader_on(over_u32, sizeof over_u32);
    CHECK(holm_read_unsigned(&reader, 32) == 0 && reader.failed);
    reader = holm_reader_on(most_u32, sizeof most_u32);
    CHECK(holm_read_unsigned(&reader, 32) == UINT32_MAX && holm_reader_is_done(&reader));
    reader = holm_reader_on(over_u64, sizeof over_u64);
    CHECK(holm_read_unsigned(&reader, 64) == 0 && reader.failed);
    /* Longer than they need to be: the last byte says nothing. Zero itself is a byte of zero. */
    const uint8_t padded[][3] = { { 0x80, 0x00 }, { 0x81, 0x00 }, { 0x81, 0x80, 0x00 } };
    const size_t padded_lengths[] = { 2, 2, 3 };
    for (size_t at = 0; at < sizeof padded_lengths / sizeof padded_lengths[0]; at++) {
        for (unsigned bits = 16; bits <= 64; bits *= 2) {
            reader = holm_reader_on(padded[at], padded_lengths[at]);
            CHECK(holm_read_unsigned(&reader, bits) == 0 && reader.failed);
        }
    }
    const uint8_t zero = 0;
    reader = holm_reader_on(&zero, 1);
    CHECK(holm_read_unsigned(&reader, 16) == 0 && holm_reader_is_done(&reader));
    const uint8_t two = 2;
    reader = holm_reader_on(&two, 1);
    CHECK(!holm_read_bool(&reader) && reader.failed);

    uint8_t bytes[16];
    holm_writer writer = holm_writer_on(bytes, sizeof bytes);
    holm_write_bool(&writer, true);
    holm_write_fix32(&writer, 0x01020304);
    const uint8_t wanted[] = { 1, 4, 3, 2, 1 };
    CHECK(writer.length == sizeof wanted && memcmp(bytes, wanted, sizeof wanted) == 0);
    reader = holm_reader_on(bytes, writer.length);
    CHECK(holm_read_bool(&reader) && holm_read_fix32(&reader) == 0x01020304 && holm_reader_is_done(&reader));
}

int main(int count, char **words)
{
    CHECK(count == 2);
    vectors = words[1];
    check_envelopes();
    check_system();
    check_numbers();
    return 0;
}
