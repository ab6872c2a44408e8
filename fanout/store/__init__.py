"""What is kept between requests: campaigns, bundles, API keys, first answers, on Redis or Valkey."""
