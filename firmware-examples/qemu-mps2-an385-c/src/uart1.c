/* The serial line: rings that interrupts fill and empty.
 *
 * What arrives while the ring is full is dropped, as a receiver without flow control must; the protocol finds out by its
 * checksum, and sends again.
 */

#include "board.h"

#define DATA (*(volatile uint32_t *)0x40005000u)
#define STATE (*(volatile uint32_t *)0x40005004u)
#define CONTROL (*(volatile uint32_t *)0x40005008u)
#define INTERRUPT (*(volatile uint32_t *)0x4000500Cu)
#define BAUD_DIVIDER (*(volatile uint32_t *)0x40005010u)
#define STATE_SEND_FULL 1u
#define STATE_RECEIVED 2u
/* Both directions, with an interrupt each. */
#define CONTROL_ALL 0xFu
#define INTERRUPT_BOTH 3u
#define NVIC_ENABLE (*(volatile uint32_t *)0xE000E100u)
#define NVIC_UART1 (3u << 2)

#define CLOCK_HZ 25000000u

/* Bytes of a ring, a power of two: 89 ms at 115,200 baud. */
#define RING_BYTES 1024u
/* Bytes taken in one interrupt: a flooded line must not keep main from running. */
#define TAKEN_AT_ONCE_MAX 64

/* Counters run on and wrap; their difference is what is in the ring. */
typedef struct {
    uint8_t bytes[RING_BYTES];
    volatile uint32_t written;
    volatile uint32_t read;
} ring;

static ring received, to_send;

static size_t in(const ring *ring)
{
    return ring->written - ring->read;
}

static void put(ring *ring, uint8_t byte)
{
    if (in(ring) < RING_BYTES) {
        ring->bytes[ring->written % RING_BYTES] = byte;
        ring->written++;
    }
}

static uint8_t take(ring *ring)
{
    uint8_t byte = ring->bytes[ring->read % RING_BYTES];
    ring->read++;
    return byte;
}

/* Hands the line a byte if it takes one; its interrupt asks for the next. Interrupts are off. */
static void send_next(void)
{
    if (in(&to_send) > 0 && (STATE & STATE_SEND_FULL) == 0) {
        DATA = take(&to_send);
    }
}

void on_uart1(void)
{
    /* Cleared before the look, so that what comes in between rings again. */
    INTERRUPT = INTERRUPT_BOTH;
    for (int taken = 0; taken < TAKEN_AT_ONCE_MAX && (STATE & STATE_RECEIVED) != 0; taken++) {
        put(&received, (uint8_t)DATA);
    }
    send_next();
}

void uart1_start(uint32_t baud)
{
    BAUD_DIVIDER = CLOCK_HZ / baud;
    CONTROL = CONTROL_ALL;
    NVIC_ENABLE = NVIC_UART1;
}

size_t uart1_read(uint8_t *out, size_t capacity)
{
    size_t length = 0;
    uint32_t state = lock();
    while (length < capacity && in(&received) > 0) {
        out[length++] = take(&received);
    }
    unlock(state);
    return length;
}

size_t uart1_room(void)
{
    return RING_BYTES - in(&to_send);
}

void uart1_write(const uint8_t *bytes, size_t length)
{
    uint32_t state = lock();
    for (size_t at = 0; at < length; at++) {
        put(&to_send, bytes[at]);
    }
    send_next();
    unlock(state);
}
