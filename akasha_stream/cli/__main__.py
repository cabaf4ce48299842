from akasha_stream.cli import main

main()
