/* Client of a Holm gateway, for firmware in C11.
 *
 * Who calls what:
 *
 *     init       once, with memory of its own and what the device is
 *     received   when bytes came from the gateway
 *     poll       after everything else here, and when the time it gave has come
 *     to_send    after poll, as often as it gives bytes; then poll once more
 *     publish    when there is something to say
 *
 * No call waits, allocates or does I/O. What happens is told by callbacks, from within holm_device_poll.
 *
 * One task calls the functions of one device, and no interrupt does. A callback may call any of them but holm_device_poll
 * (it returns HOLM_ERROR_BUSY there). Two devices of one program may have two tasks.
 *
 * The program defines three functions: holm_hook_lock, holm_hook_unlock and holm_hook_panic, below.
 */
#ifndef HOLM_DEVICE_H
#define HOLM_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Results ---- */

/* HOLM_OK or one of the errors. */
typedef int32_t holm_result;

#define HOLM_OK ((holm_result)0)
/* A null pointer where none may be, or a value out of its range. */
#define HOLM_ERROR_ARGUMENT ((holm_result)-1)
/* The settings were not begun with HOLM_SETTINGS, or header and library are of different versions. */
#define HOLM_ERROR_ABI ((holm_result)-2)
/* The memory is null, not aligned to HOLM_ALIGNMENT, or too little: see HOLM_DEVICE_SIZE. */
#define HOLM_ERROR_MEMORY ((holm_result)-3)
/* The name is none of 1 to 64 of a-z, A-Z, 0-9, '-', '_' and '.'. */
#define HOLM_ERROR_NAME ((holm_result)-4)
/* User (at most 64 bytes) or token (at most 128) is too long, or not UTF-8. */
#define HOLM_ERROR_CREDENTIAL ((holm_result)-5)
/* The topic is empty, longer than 128 bytes, has over 32 levels or a wildcard, or begins with '$'. */
#define HOLM_ERROR_TOPIC ((holm_result)-6)
/* Topic, name and body are more than a record holds (HOLM_RECORD_BYTES), or an answer more than HOLM_ANSWER_BYTES. */
#define HOLM_ERROR_TOO_LONG ((holm_result)-7)
/* No room now: call holm_device_poll, then again. */
#define HOLM_ERROR_FULL ((holm_result)-8)
/* Called from a callback that it is calling. */
#define HOLM_ERROR_BUSY ((holm_result)-9)
/* That connection is not wanted any more: close it, and ask holm_device_connection. */
#define HOLM_ERROR_STALE ((holm_result)-10)
/* No image of `holm device add`, or neither of its copies is whole. */
#define HOLM_ERROR_PROVISION ((holm_result)-11)
/* The address on the bus is none of 1 to 247, or 0 for a line of its own. */
#define HOLM_ERROR_ADDRESS ((holm_result)-12)

/* ---- What the program defines ---- */

/* Keeps other tasks and interrupts that call this library out, and returns what holm_hook_unlock needs to undo just that;
 * both nest. On a bare Cortex-M: read PRIMASK and disable interrupts; write it back. */
uint32_t holm_hook_lock(void);
void holm_hook_unlock(uint32_t state);

/* The library has found itself broken, in that line of its source. Does not return. `file` has no NUL at its end. */
#if defined(__cplusplus)
[[noreturn]]
#else
_Noreturn
#endif
void holm_hook_panic(const char *file, size_t file_length, uint32_t line);

/* ---- Events ---- */

/* kind of an event, and which fields have a meaning */
#define HOLM_EVENT_CONNECTED ((uint8_t)1)    /* resumed */
#define HOLM_EVENT_DISCONNECTED ((uint8_t)2) /* trouble, reason, retry_ms */
#define HOLM_EVENT_ACKED ((uint8_t)3)        /* sequence: the gateway has it on its disk */
#define HOLM_EVENT_REFUSED ((uint8_t)4)      /* sequence, reason: no gateway can ever take it */
#define HOLM_EVENT_DROPPED ((uint8_t)5)      /* sequence: the queue was full */
#define HOLM_EVENT_TIME ((uint8_t)6)         /* time_ms, quality: it has become better or worse */

/* trouble: why there is no connection */
#define HOLM_TROUBLE_NONE ((uint8_t)0)
#define HOLM_TROUBLE_DIAL ((uint8_t)1)     /* the program could not make one */
#define HOLM_TROUBLE_TIMEOUT ((uint8_t)2)  /* the gateway did not answer in time */
#define HOLM_TROUBLE_LOST ((uint8_t)3)     /* it was closed or broke */
#define HOLM_TROUBLE_PROTOCOL ((uint8_t)4) /* the gateway sent what is no MQTT 5, or too much at once */
#define HOLM_TROUBLE_REFUSED ((uint8_t)5)  /* for `reason`: 0x86 and 0x87 mean a wrong name or token */
#define HOLM_TROUBLE_MEMORY ((uint8_t)6)   /* a packet is too long for the memory of packets */

#define HOLM_TROUBLE_TLS ((uint8_t)7)      /* no TLS, or not with this gateway: `reason` is a HOLM_TLS_... */

/* reason of HOLM_TROUBLE_TLS */
#define HOLM_TLS_FAILED ((uint8_t)0)  /* it broke off, or the gateway did not accept the device */
#define HOLM_TLS_REFUSED ((uint8_t)1) /* the gateway did not prove that it is the one in the image */

/* quality of a time */
#define HOLM_QUALITY_UPTIME ((uint8_t)0)   /* since the device started: the gateway told no time yet */
#define HOLM_QUALITY_UNSYNCED ((uint8_t)1) /* since 1970-01-01T00:00:00Z, by a clock that nobody vouches for */
#define HOLM_QUALITY_SYNCED ((uint8_t)2)   /* since 1970-01-01T00:00:00Z */

typedef struct {
    uint64_t sequence; /* of a message, as holm_device_publish gave it */
    uint64_t time_ms;
    uint32_t retry_ms; /* milliseconds to the next attempt */
    uint8_t kind;      /* HOLM_EVENT_... */
    uint8_t trouble;   /* HOLM_TROUBLE_... */
    uint8_t reason;    /* reason code of MQTT 5; HOLM_TLS_... */
    uint8_t resumed;   /* 1: the gateway still had the session */
    uint8_t quality;   /* HOLM_QUALITY_... */
} holm_event;

/* Every sequence that holm_device_publish gave ends in one ACKED, REFUSED or DROPPED, unless the device restarts. */
typedef void (*holm_on_event)(void *context, const holm_event *event);

/* ---- Commands ---- */

#define HOLM_STATUS_DONE ((int32_t)0)
#define HOLM_STATUS_FAILED ((int32_t)1)
#define HOLM_STATUS_UNKNOWN ((int32_t)2)      /* the device has no such command */
#define HOLM_STATUS_BAD_ARGUMENT ((int32_t)3)
#define HOLM_STATUS_BUSY ((int32_t)4)         /* not now: the sender repeats it, and then it is done */

/* Bytes of the longest answer. */
#define HOLM_ANSWER_BYTES 96u

typedef struct {
    uint64_t id;
    uint64_t schema;     /* type of the body; 0: none is stated */
    const char *name;    /* at most 32 bytes and a NUL */
    const uint8_t *body; /* not null */
    size_t body_length;
} holm_command;

/* Takes the answer of a command. */
typedef struct holm_reply holm_reply;

/* Does a command, once for each id, and returns a HOLM_STATUS_...; all it is given lives until it returns. */
typedef int32_t (*holm_on_command)(void *context, const holm_command *command, holm_reply *reply);

/* The answer beside the status: a value of the type `schema`, or with schema 0 a text, as for the reason of a failure.
 * HOLM_ERROR_TOO_LONG over HOLM_ANSWER_BYTES. Only within holm_on_command. */
holm_result holm_device_answer(holm_reply *reply, uint64_t schema, const void *body, size_t body_length);

/* ---- Start ---- */

/* What a queue does when it is full. */
#define HOLM_OVERFLOW_DROP_OLDEST ((uint8_t)0)
#define HOLM_OVERFLOW_DROP_NEWEST ((uint8_t)1)

typedef struct {
    uint32_t abi;          /* HOLM_ABI, by HOLM_SETTINGS */
    uint16_t keep_alive_s; /* longest silence on a connection; 0: 20 */
    uint8_t overflow;      /* HOLM_OVERFLOW_... */
    uint8_t address;       /* serial line: 1 to 247 on a shared bus, 0 on a line of its own */
    /* 64 random bits, other ones at each start: from a hardware generator, never a counter or a clock. The gateway tells
     * repeats by it; a device that starts with a number it had before loses messages as repeats. */
    uint64_t boot;
    const char *name;      /* of the device; 1 to 64 of a-z, A-Z, 0-9, '-', '_', '.' */
    const char *user;      /* for MQTT, where it is not the name; NULL: the name */
    const char *token;     /* of `holm device add`; NULL: none */
    holm_on_event on_event;     /* may be NULL */
    holm_on_command on_command; /* may be NULL: no command is known */
    void *context;              /* goes to both */
    uint32_t baud;           /* serial line: its speed, at least 300 */
    uint32_t backoff_ms_min; /* wait after the first failure to connect; 0: 500 */
    uint32_t backoff_ms_max; /* longest wait; 0: 60,000 */
} holm_settings;

#define HOLM_ABI ((uint32_t)1 << 16 | (uint32_t)sizeof(holm_settings))
/* What settings begin as: holm_settings settings = HOLM_SETTINGS; */
#define HOLM_SETTINGS { .abi = HOLM_ABI }

/* Bytes of the longest record: topic, name of the device, body, and up to 43 for the rest. */
#define HOLM_RECORD_BYTES 256u
/* What a device takes without its queue: over TCP, on a serial line, over TCP with TLS; and how it is aligned. */
#if UINTPTR_MAX > 0xffffffffu
#define HOLM_DEVICE_BYTES 14336u
#define HOLM_SERIAL_BYTES 11264u
#define HOLM_TLS_BYTES 30720u
#define HOLM_ALIGNMENT 16u
#else
#define HOLM_DEVICE_BYTES 11776u
#define HOLM_SERIAL_BYTES 8960u
#define HOLM_TLS_BYTES 26624u
#define HOLM_ALIGNMENT 8u
#endif
/* Memory of a device whose queue has so many bytes, at least HOLM_RECORD_BYTES + 2. A message takes topic, name and body,
 * and up to 45 bytes. */
#define HOLM_DEVICE_SIZE(queue_bytes) (HOLM_DEVICE_BYTES + (size_t)(queue_bytes))
#define HOLM_SERIAL_SIZE(queue_bytes) (HOLM_SERIAL_BYTES + (size_t)(queue_bytes))
#define HOLM_TLS_SIZE(queue_bytes) (HOLM_TLS_BYTES + (size_t)(queue_bytes))
/* Before the definition of that memory. */
#if defined(__cplusplus)
#define HOLM_ALIGNED alignas(HOLM_ALIGNMENT)
#else
#define HOLM_ALIGNED _Alignas(HOLM_ALIGNMENT)
#endif

typedef struct holm_device holm_device;

/* Makes a device that connects to its gateway over TCP, or whatever else carries bytes in order.
 *
 * `memory` is the device's for as long as it is used. The settings and their texts are copied. Stack: see the README.
 * On an error `*device` is NULL, and the memory is the caller's. */
holm_result holm_device_init(void *memory, size_t length, const holm_settings *settings, holm_device **device);

/* Makes a device that connects with TLS 1.3. The library must be built with its feature `tls`.
 *
 * `image`: what `holm device add` wrote for the flash, 8 KiB; it says name, token or certificate, and whom to trust. It must
 * stay where it is. Name and token of the settings are not looked at.
 * `entropy`: 32 bytes that nobody can guess and no other start ever had; they are copied. */
holm_result holm_device_init_tls(void *memory, size_t length, const holm_settings *settings, const void *image,
                                 size_t image_length, const uint8_t entropy[32], holm_device **device);

/* Makes a device on a serial line (SERIAL.md of the protocol), at `address` and `baud`. */
holm_result holm_serial_init(void *memory, size_t length, const holm_settings *settings, holm_device **device);

/* ---- Work ---- */

/* Works until there is nothing to do. `now_ms`: milliseconds since the start of the device; it does not go back.
 * `*due_ms`, if not NULL: when to call again at the latest, if nothing happens before; UINT64_MAX: never. */
holm_result holm_device_poll(holm_device *device, uint64_t now_ms, uint64_t *due_ms);

/* Bytes came from the gateway. Returns how many were taken. Keep the others, send what `to_send` gives, poll with the time that
 * it is then, and give them again; when the number of the connection changes, throw them away. */
size_t holm_device_received(holm_device *device, const void *bytes, size_t length);

/* Fills `out` with bytes for the gateway; returns how many. Ask again until it gives none. */
size_t holm_device_to_send(holm_device *device, void *out, size_t capacity);

/* The number of the connection that the device wants or has; 0: none. Ask after each poll: when it is another one than
 * the program has open, that one is to be closed, and one with the new number to be made.
 * A serial line is always there, and cannot be closed; its number is 1. */
uint32_t holm_device_connection(const holm_device *device);

/* The program has made the connection with that number. */
holm_result holm_device_opened(holm_device *device, uint32_t connection);

/* The connection with that number is closed, broken, or could not be made. */
holm_result holm_device_closed(holm_device *device, uint32_t connection);

/* Puts a message into the queue; it goes to the gateway when there is a connection, and stays until the gateway has it on
 * its disk. `schema`: type of the body, 0 if none is stated (README, "Messages"). `*sequence`, if not NULL: the number
 * that events name it by. */
holm_result holm_device_publish(holm_device *device, const char *topic, uint64_t schema, const void *body,
                                size_t body_length, uint64_t *sequence);

/* ---- Questions ---- */

typedef struct {
    uint64_t ms;
    uint8_t quality; /* HOLM_QUALITY_... */
} holm_time;

/* The time, as good as the device knows it. */
holm_result holm_device_now(const holm_device *device, holm_time *time);

/* Counts since the start. */
typedef struct {
    uint32_t queued;     /* messages in the queue now */
    uint32_t published;  /* messages put into it */
    uint32_t acked;      /* messages that the gateway has */
    uint32_t overflowed; /* messages that the full queue dropped or refused; may fall: one that was on its way counts until its ack comes */
    uint32_t refused;    /* messages that no gateway can take */
    uint32_t connects;   /* connections that came to stand */
    uint32_t ignored;    /* messages of the gateway that made no sense */
} holm_figures;

holm_result holm_device_figures(const holm_device *device, holm_figures *figures);

/* ---- Provisioning ---- */

/* What `holm device add` has written for a device: texts with a NUL. */
typedef struct {
    char name[65];
    char host[65];    /* of its first gateway */
    char token[129];  /* empty: it has none */
    uint8_t is_plain; /* 1: without TLS */
    uint16_t port;
} holm_provision;

/* Reads the image: 8 KiB, two copies, of which the whole one with the higher generation counts. */
holm_result holm_provision_read(const void *image, size_t length, holm_provision *provision);

#ifdef __cplusplus
}
#endif

#endif
