/* What the board offers: console, time, the serial line, the sensor's bus. Registers: Arm application note 385. */
#ifndef BOARD_H
#define BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- startup.c ---- */

/* The most bytes of stack in use at any time since the start. */
uint32_t stack_high_water_bytes(void);

/* ---- clock.c ---- */

/* Starts the time. */
void clock_start(void);
/* Milliseconds since the start. */
uint64_t clock_ms(void);
/* Waits for an interrupt: the next millisecond at the latest. */
void wait_for_interrupt(void);
/* Keeps interrupts out; returns what `unlock` restores. */
uint32_t lock(void);
void unlock(uint32_t state);

/* ---- console.c ---- */

/* Writes to UART0: `%s` a text, `%u` a uint32_t, `%d` an int32_t, `%x` a uint64_t with 16 digits. Adds the time in front, and
 * the end of the line. */
void say(const char *format, ...);

/* ---- uart1.c ---- */

void uart1_start(uint32_t baud);
/* Takes received bytes; returns how many. */
size_t uart1_read(uint8_t *out, size_t capacity);
/* How many bytes `uart1_write` takes now. */
size_t uart1_room(void);
void uart1_write(const uint8_t *bytes, size_t length);

/* ---- tmp105.c ---- */

/* Sets the sensor to 12 bits. False if it does not answer. */
bool tmp105_start(void);
/* The temperature in thousandths of a degree Celsius. */
bool tmp105_read(int32_t *milli_celsius);

/* ---- sim.c: the emulator's host, by semihosting ---- */

/* The command line into `out`, with a NUL. */
bool sim_arguments(char *out, size_t capacity);
/* Random bytes. */
bool sim_entropy(void *out, size_t length);
/* Ends the emulator with that code. */
_Noreturn void sim_exit(uint32_t code);

/* ---- Interrupts, called by the vector table ---- */

void on_tick(void);
void on_uart1(void);

#endif
