// SPDX-License-Identifier: Apache-2.0
// The decoder's work as a loop in C: the same checks and tables as src/protocols/modbus/{request,decide}.ts for the
// functions of the benchmark's mix, on whole buffers. Usage: decoder FILE FRAMES ROUNDS; FILE holds whole ADUs.
// Prints nanoseconds a frame for each round, and the number of allowed frames as a check.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint8_t rows[256];
static uint16_t cells[256];
static const int32_t pool[] = {0, 999, 0, 127};
static const int first[] = {0, 0, 2}, last[] = {0, 2, 4};

static inline unsigned word(const uint8_t *p) { return (unsigned)(p[0] << 8 | p[1]); }

// V1.1b3 §6.1 to §6.6, §6.11, §6.12: 0 where the request keeps the specification.
static int check_request(const uint8_t *pdu, unsigned length) {
  unsigned quantity;
  switch (pdu[0]) {
    case 1: case 2:
      if (length != 5) return 1;
      quantity = word(pdu + 3);
      if (quantity < 1 || quantity > 2000) return 2;
      return word(pdu + 1) + quantity > 65536 ? 3 : 0;
    case 3: case 4:
      if (length != 5) return 1;
      quantity = word(pdu + 3);
      if (quantity < 1 || quantity > 125) return 2;
      return word(pdu + 1) + quantity > 65536 ? 3 : 0;
    case 5:
      if (length != 5) return 1;
      quantity = word(pdu + 3);
      return quantity == 0 || quantity == 0xff00 ? 0 : 4;
    case 6:
      return length == 5 ? 0 : 1;
    case 15: case 16:
      if (length < 6) return 1;
      quantity = word(pdu + 3);
      if (quantity < 1 || quantity > (pdu[0] == 15 ? 1968u : 123u)) return 2;
      if (pdu[5] != (pdu[0] == 15 ? (quantity + 7) >> 3 : quantity << 1) || length != 6u + pdu[5]) return 5;
      return word(pdu + 1) + quantity > 65536 ? 3 : 0;
    default:
      return 0;
  }
}

// 0: allowed.
static int decide(const uint8_t *adu, unsigned length) {
  const uint8_t *pdu = adu + 7;
  unsigned program = cells[rows[adu[6]] << 8 | pdu[0]];
  if (program == 0) return 1;
  int fault = check_request(pdu, length - 1);
  if (fault) return 2;
  unsigned low = word(pdu + 1), high = low + word(pdu + 3) - 1;
  for (int i = first[program]; i < last[program]; i += 2)
    if (low >= (unsigned)pool[i] && high <= (unsigned)pool[i + 1]) return 0;
  return 3;
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  static uint8_t buf[1 << 20];
  FILE *file = fopen(argv[1], "rb");
  if (!file) return 2;
  size_t end = fread(buf, 1, sizeof buf, file);
  fclose(file);
  long wanted = atol(argv[2]);
  cells[3] = 1;
  cells[4] = 2;
  for (int round = 0; round < atoi(argv[3]); round++) {
    long frames = 0, allowed = 0;
    uint64_t start = now();
    while (frames < wanted) {
      for (size_t o = 0; end - o >= 6;) {
        unsigned length = word(buf + o + 4);
        if (length < 2 || length > 254) return 1;
        size_t next = o + 6 + length;
        if (next > end) break;
        if ((buf[o + 2] | buf[o + 3]) == 0 && decide(buf + o, length) == 0) allowed++;
        frames++;
        o = next;
      }
      // The next pass is to read the bytes anew.
      __asm__ volatile("" ::: "memory");
    }
    printf("%.3f %.6f\n", (double)(now() - start) / frames, (double)allowed / frames);
  }
  return 0;
}
