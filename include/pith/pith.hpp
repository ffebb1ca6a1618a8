// SPDX-License-Identifier: MIT
// The door: what a host application includes.
#pragma once

#include "pith/chat.hpp"
#include "pith/error.hpp"
#include "pith/generator.hpp"
#include "pith/model.hpp"
#include "pith/prune/methods.hpp"
#include "pith/retrieval.hpp"
#include "pith/sampler.hpp"
#include "pith/session.hpp"
#include "pith/synthetic.hpp"
#include "pith/tokenizer.hpp"
