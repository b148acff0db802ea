/*
 * Argon2id by the reference implementation in C, for comparison with the service.
 *
 *     argon2 MEMORY_KIB ITERATIONS LANES
 *
 * computes one hash for each line on standard input, and prints its time in nanoseconds.
 *
 * Built with AVX2 from the sources in node-argon2:
 *
 *     lib=node_modules/argon2/argon2
 *     cc -O3 -mavx2 -I $lib/include argon2.c $lib/src/{argon2,core,encoding,thread,opt}.c $lib/src/blake2/blake2b.c \
 *       -lpthread -o argon2
 *
 * or, if that fails, with libargon2-dev of Debian, which supports any x86-64 and takes twice the time:
 *
 *     cc -O3 argon2.c -largon2 -o argon2
 */

#define _POSIX_C_SOURCE 199309L /* clock_gettime */

#include <argon2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/*
 * The memory of all hashes. It is reused, as in the service, because the kernel would need much time for the pages of
 * fresh memory. The library wipes it after each hash.
 */
static uint8_t *arena;
static size_t arena_bytes;

static int take_arena(uint8_t **memory, size_t bytes) {
    *memory = bytes <= arena_bytes ? arena : NULL;
    return ARGON2_OK; /* The library checks the pointer. */
}

static void keep_arena(uint8_t *memory, size_t bytes) {
    (void)memory;
    (void)bytes;
}

static void fail(const char *message) {
    fprintf(stderr, "argon2: %s\n", message);
    exit(EXIT_FAILURE);
}

/* Fills out with the hash of the inputs of RFC 9106, section 5. */
static void hash(uint32_t memory_kib, uint32_t iterations, uint32_t lanes, uint8_t out[32]) {
    uint8_t password[32], salt[16], secret[8], associated_data[12];
    memset(password, 1, sizeof password);
    memset(salt, 2, sizeof salt);
    memset(secret, 3, sizeof secret);
    memset(associated_data, 4, sizeof associated_data);
    argon2_context context = {
        .out = out, .outlen = 32,
        .pwd = password, .pwdlen = sizeof password,
        .salt = salt, .saltlen = sizeof salt,
        .secret = secret, .secretlen = sizeof secret,
        .ad = associated_data, .adlen = sizeof associated_data,
        .t_cost = iterations, .m_cost = memory_kib, .lanes = lanes, .threads = lanes,
        .version = ARGON2_VERSION_13,
        .allocate_cbk = take_arena, .free_cbk = keep_arena,
        .flags = ARGON2_DEFAULT_FLAGS,
    };
    int error = argon2id_ctx(&context);
    if (error != ARGON2_OK) fail(argon2_error_message(error));
}

/* Checks that the hashes are correct. */
static void check(void) {
    static const uint8_t tag[32] = { /* RFC 9106, section 5.3 */
        0x0d, 0x64, 0x0d, 0xf5, 0x8d, 0x78, 0x76, 0x6c, 0x08, 0xc0, 0x37, 0xa3, 0x4a, 0x8b, 0x53, 0xc9,
        0xd0, 0x1e, 0xf0, 0x45, 0x2d, 0x75, 0xb6, 0x5e, 0xb5, 0x25, 0x20, 0xe9, 0x6b, 0x01, 0xe6, 0x59,
    };
    uint8_t out[32];
    hash(32, 3, 4, out);
    if (memcmp(out, tag, sizeof tag) != 0) fail("this is not Argon2id");
}

static uint32_t parameter(const char *text) {
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*end != '\0' || value == 0 || value > 1 << 20) fail("MEMORY_KIB, ITERATIONS and LANES are numbers up to 2^20");
    return (uint32_t)value;
}

static int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc != 4) fail("three arguments: MEMORY_KIB ITERATIONS LANES");
    uint32_t memory_kib = parameter(argv[1]), iterations = parameter(argv[2]), lanes = parameter(argv[3]);
    arena_bytes = (size_t)(memory_kib < 32 ? 32 : memory_kib) * 1024;
    /* Whole pages, so that each block starts at a cache line. */
    arena = aligned_alloc(4096, (arena_bytes + 4095) / 4096 * 4096);
    if (arena == NULL) fail("out of memory");
    check();
    uint8_t out[32];
    hash(memory_kib, iterations, lanes, out); /* Touches every page. */

    for (int character; (character = getchar()) != EOF;) {
        if (character != '\n') continue;
        int64_t start = nanoseconds();
        hash(memory_kib, iterations, lanes, out);
        printf("%lld\n", (long long)(nanoseconds() - start));
        fflush(stdout);
    }
    return EXIT_SUCCESS;
}
