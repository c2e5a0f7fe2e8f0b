"""Users played by a language model (ColdLLM, LLM-InS): who would take a new item, before anybody has."""
