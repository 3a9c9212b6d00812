/* A guest in C by the preview1 ABI: four values through the model `default`, and what it makes of them printed.
   docs/guests.md has the command, and what the numbers mean. */

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define FROM_HOST(name) __attribute__((import_module("wasi_ephemeral_nn"), import_name(#name))) extern uint32_t name

enum { F32 = 1 };

typedef struct {
  const uint32_t *dimensions;
  uint32_t rank;
  uint8_t type;
  const void *data;
  uint32_t bytes;
} tensor;

FROM_HOST(load_by_name)(const char *name, uint32_t length, uint32_t *graph);
FROM_HOST(init_execution_context)(uint32_t graph, uint32_t *context);
FROM_HOST(set_input)(uint32_t context, uint32_t index, const tensor *input);
FROM_HOST(compute)(uint32_t context);
FROM_HOST(get_output)(uint32_t context, uint32_t index, void *buffer, uint32_t room, uint32_t *written);

#define CHECK(call)                                                                   \
  do {                                                                                \
    uint32_t errno_ = (call);                                                         \
    if (errno_) {                                                                     \
      fprintf(stderr, "%s: errno %u; infer run -v says more\n", #call, (unsigned)errno_); \
      return 1;                                                                       \
    }                                                                                 \
  } while (0)

int main(void) {
  const char name[] = "default";
  const uint32_t dimensions[] = {4};
  const float values[] = {1.5f, -2.25f, 3, 4};
  const tensor input = {dimensions, 1, F32, values, sizeof values};
  float output[16];
  uint32_t graph, context, written;
  CHECK(load_by_name(name, strlen(name), &graph));
  CHECK(init_execution_context(graph, &context));
  CHECK(set_input(context, 0, &input));
  CHECK(compute(context));
  CHECK(get_output(context, 0, output, sizeof output, &written));
  for (uint32_t i = 0; i < written / sizeof *output; i++) {
    printf("%g\n", output[i]);
  }
  return 0;
}
