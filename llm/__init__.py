"""A live LLM as teacher: endpoint, prompts, answers, reply books being written. Needed by whoever brings an LLM."""
