#include <stdio.h>
#include <string.h>
#include <torchmodel.h>

static int failures;

static void expect(int right, const char *what) {
  if (right) return;
  ++failures;
  fprintf(stderr, "failed: %s (%s)\n", what, tm_last_error());
}

static void counted(void *count) {
  ++*(int *)count;
}

int main(void) {
  tm_model *model = NULL;
  tm_value *input = NULL, *output = NULL;
  tm_tensor_info info;
  float ones[4] = {1, 1, 1, 1};
  const int64_t shape[2] = {1, 4}, wrong[2] = {1, 3};
  int released = 0;

  expect(tm_model_load("missing.pt", NULL, &model) == TM_ERROR_FILE, "a missing file");
  expect(strstr(tm_last_error(), "missing.pt") != NULL, "its message names it");
  expect(tm_model_load("model.pt", NULL, &model) == TM_OK, "load");

  expect(tm_tensor_borrow(ones, TM_FLOAT32, shape, 2, NULL, counted, &released, &input) == TM_OK, "borrow");
  expect(tm_model_forward(model, (const tm_value *const *)&input, 1, &output) == TM_OK, "forward");
  expect(tm_tensor_get_info(output, &info) == TM_OK && info.elements == 2, "the output's elements");
  expect(((const float *)info.data)[0] == 2.5f && ((const float *)info.data)[1] == -0.75f, "the numbers");
  tm_value_free(output);
  expect(released == 0, "the input is in use");
  tm_value_free(input);
  expect(released == 1, "the input is released");

  expect(tm_tensor_copy(ones, TM_FLOAT32, wrong, 2, NULL, &input) == TM_OK, "copy");
  expect(tm_model_forward(model, (const tm_value *const *)&input, 1, &output) == TM_ERROR_MODEL, "a wrong shape");
  expect(strstr(tm_last_error(), "shapes cannot be multiplied") != NULL, "its message");
  tm_value_free(input);
  tm_model_free(model);
  if (failures == 0) printf("ok\n");
  return failures > 0;
}
