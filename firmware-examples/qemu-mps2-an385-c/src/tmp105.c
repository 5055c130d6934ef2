/* The TMP105 on the board's I2C bus: two wires that software moves (Arm SBCon).
 *
 * Registers of the sensor: Texas Instruments TMP105, SBOS648, 7.5.
 */

#include "board.h"

/* The last of four buses: the one that QEMU's `-device` takes when none is named. Reading the first register gives the
 * wires, writing sets; writing the second clears. */
#define WIRES (*(volatile uint32_t *)0x4002A000u)
#define CLEAR (*(volatile uint32_t *)0x4002A004u)
#define CLOCK 1u
#define DATA 2u

/* Clocks after which any device has let go of the data wire (I2C specification 3.1.16). */
#define CLOCKS_TO_FREE 9

/* With all three address pins low. */
#define ADDRESS 0x48u
#define TEMPERATURE 0u
#define CONFIGURATION 1u
/* R1 and R0: 12 bits, 1/16 degree a step. */
#define RESOLUTION_12_BITS 0x60u

static void begin(void)
{
    WIRES = DATA;
    WIRES = CLOCK;
    CLEAR = DATA;
    CLEAR = CLOCK;
}

static void stop(void)
{
    CLEAR = DATA;
    WIRES = CLOCK;
    WIRES = DATA;
}

static void send_bit(bool bit)
{
    if (bit) {
        WIRES = DATA;
    } else {
        CLEAR = DATA;
    }
    WIRES = CLOCK;
    CLEAR = CLOCK;
}

static bool receive_bit(void)
{
    WIRES = DATA;
    WIRES = CLOCK;
    bool bit = (WIRES & DATA) != 0;
    CLEAR = CLOCK;
    return bit;
}

/* Whether it was acknowledged. */
static bool send(uint32_t byte)
{
    for (int bit = 7; bit >= 0; bit--) {
        send_bit((byte >> bit & 1) != 0);
    }
    return !receive_bit();
}

static uint8_t receive(bool more)
{
    uint8_t byte = 0;
    for (int bit = 0; bit < 8; bit++) {
        byte = (uint8_t)(byte << 1 | (receive_bit() ? 1 : 0));
    }
    send_bit(!more);
    return byte;
}

bool tmp105_start(void)
{
    /* A device may have been cut off in the middle of a byte. */
    for (int clock = 0; clock < CLOCKS_TO_FREE; clock++) {
        receive_bit();
    }
    stop();
    begin();
    bool answers = send(ADDRESS << 1) && send(CONFIGURATION) && send(RESOLUTION_12_BITS);
    stop();
    return answers;
}

bool tmp105_read(int32_t *milli_celsius)
{
    begin();
    bool answers = send(ADDRESS << 1) && send(TEMPERATURE);
    if (answers) {
        begin();
        answers = send(ADDRESS << 1 | 1);
    }
    if (answers) {
        uint8_t high = receive(true);
        uint8_t low = receive(false);
        /* Left-aligned two's complement, four bits of it fractions. */
        int16_t register_value = (int16_t)(uint16_t)(high << 8 | low);
        *milli_celsius = (register_value >> 4) * 1000 / 16;
    }
    stop();
    return answers;
}
