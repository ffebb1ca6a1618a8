// SPDX-License-Identifier: MIT
// Where the fields of pith.h's structs lie, on machines with pointers of 64 bits: programs that are compiled rely on
// it. A struct with a size may grow: by fields behind where it ended, its padding included. Then its size here does,
// and first_size (src/c/call.hpp) keeps the old one.
#include <pith/pith.h>

#define LAYOUT(type, bytes, last, offset)                                                             \
  _Static_assert(sizeof(void*) != 8 || (sizeof(type) == (bytes) && offsetof(type, last) == (offset)), \
                 #type " has another layout than it was published with")

LAYOUT(pith_load_options, 16, gates, 8);
LAYOUT(pith_model_info, 64, bytes, 56);
LAYOUT(pith_message, 16, content, 8);
LAYOUT(pith_chat_options, 40, name, 32);
LAYOUT(pith_token_bias, 8, bias, 4);
LAYOUT(pith_token_logprob, 8, logprob, 4);
LAYOUT(pith_sampler_options, 96, seed, 88);
LAYOUT(pith_drop, 32, gate_score, 24);
LAYOUT(pith_session_options, 104, user, 96);
LAYOUT(pith_stats, 96, policy, 88);
LAYOUT(pith_piece, 112, error_message, 104);
LAYOUT(pith_request, 160, user, 152);
LAYOUT(pith_generation, 88, finish, 80);
LAYOUT(pith_output, 24, vocab_size, 16);

// Numbers that stand for something.
_Static_assert(PITH_ERROR_FILE == 1, "a number of pith.h has changed");
_Static_assert(PITH_ERROR_INTERNAL == 10, "a number of pith.h has changed");
_Static_assert(PITH_FINISH_END == 1, "a number of pith.h has changed");
_Static_assert(PITH_FINISH_ERROR == 6, "a number of pith.h has changed");
_Static_assert(PITH_SPECIALS_PLAIN == 3, "a number of pith.h has changed");
_Static_assert(PITH_LOGITS_NONE == 2, "a number of pith.h has changed");
