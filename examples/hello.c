// SPDX-License-Identifier: MIT
// hello_c MODEL: a text continued, printed as it comes, in a bounded memory.
#include <pith/pith.h>
#include <stdio.h>

static void print(void* file, const pith_piece* piece) {
  fputs(piece->text, file);
  fflush(file);
}

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: hello_c MODEL (a Hugging Face directory, or one .gguf)\n");
    return 2;
  }
  pith_model* model = NULL;
  pith_tokenizer* tokenizer = NULL;
  pith_generator* generator = NULL;

  pith_session_options options;
  pith_session_options_init(&options, sizeof options);
  options.policy = "snapkv(rows=2048),h2o(rows=1024,recent=256)";  // shorten the prompt once, bound what follows
  options.kv = "f16";

  pith_sampler_options sampler;
  pith_sampler_options_init(&sampler, sizeof sampler);
  sampler.temperature = 0.7f;
  sampler.top_p = 0.9f;

  pith_request request;
  pith_request_init(&request, sizeof request);
  request.prompt = "The history of the Alps begins";
  request.max_tokens = 60;
  request.sampler = &sampler;
  request.on_piece = print;
  request.user = stdout;

  fputs(request.prompt, stdout);
  const int failed = pith_model_load(argv[1], NULL, &model) || pith_tokenizer_load(argv[1], &tokenizer) ||
                     pith_generator_create(model, tokenizer, &options, 0, &generator) ||
                     pith_generator_submit(generator, &request, NULL) || pith_generator_run(generator, NULL);
  puts("");
  if (failed) fprintf(stderr, "hello_c: %s\n", pith_error_message());

  pith_generator_free(generator);
  pith_tokenizer_free(tokenizer);
  pith_model_free(model);
  return failed;
}
